"""Who makes the partitions of a stage: this process, a shard of them in each job of an array, or a cluster."""
