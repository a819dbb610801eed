"""A disk of its own in a file, whose power can be cut: an ext4 image, mounted through a loop device. Needs root."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import psutil


class Disk:
    """A file system of `megabytes` in one file, mounted at `at`.

    Args:
        folder: where the image and the mount point are made; better not on a slow disk.
    """

    def __init__(self, folder: Path, megabytes: int) -> None:
        self.image, self.at, self._cuts, self._folder = folder / "disk-0.img", folder / "mounted", 0, folder
        self.at.mkdir(parents=True)
        with self.image.open("wb") as file:
            file.truncate(megabytes << 20)
        run("mkfs.ext4", "-q", "-F", "-m", "0", str(self.image))
        self._mount()

    def cut(self, job: subprocess.Popen[str], others: Sequence[psutil.Process] = ()) -> None:
        """Cut the power under a job and others that are stopped: what the kernel has not yet written is lost.

        The image is copied as it is, without sync; the job ends, and the copy is mounted, as after a restart.
        """
        self._cuts += 1
        after = self._folder / f"disk-{self._cuts}.img"
        run("cp", "--sparse=always", str(self.image), str(after))
        for one in others:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
        job.kill()
        job.wait()
        psutil.wait_procs(others, 60)
        if job.stdout is not None:
            job.stdout.close()
        self.close()
        self.image.unlink()
        self.image = after
        self._mount()

    def close(self) -> None:
        """Unmount it."""
        run("umount", str(self.at))

    def _mount(self) -> None:
        run("mount", "-o", "loop", str(self.image), str(self.at))


def can_mount(folder: Path) -> bool:
    """Say whether this process may mount images."""
    if os.name != "posix" or os.geteuid() != 0 or shutil.which("mkfs.ext4") is None:
        return False
    try:
        disk = Disk(folder / "trial", 8)
    except (OSError, subprocess.CalledProcessError):
        return False
    disk.close()
    return True


def run(*command: str) -> None:
    """Run a command; raise CalledProcessError with what it said where it fails."""
    subprocess.run(command, check=True, capture_output=True, text=True)
