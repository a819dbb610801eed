"""Content and behaviour joined: one study of both, judged alike for known, little known and new items."""
