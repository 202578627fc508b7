"""Builds on a Ray cluster: the same plan, its shards of work handed to workers on other machines.

`executor` hands them out, `connection` finds the cluster, `worker` is what runs there. Only the first two know Ray.
"""
