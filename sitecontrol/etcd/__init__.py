"""Talking to etcd: the protocol (`api`), the client over gRPC, and its twin in memory (docs/etcd.md)."""

import os

# gRPC's fork handlers crash a child between fork and exec now and then (seen as SIGSEGV of the programs that the
# agent runs as another user). Nothing of ours goes on using gRPC in a forked child. Must be set before grpc is
# imported, which only the modules of this package do.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")
