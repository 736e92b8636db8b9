"""Persistent tasks over gRPC and Redis: what `scheduler.core.persistent` decides is carried out.

All of it is asleep unless database.redis.addrs is set, and standard tasks never wait for it.
"""
