"""The file of `dynConfig.file`: what the operator of a cluster may change while its scheduler runs.

Its keys are those of the local dynconfig of Dragonfly's scheduler:

    applications:                        # levels for downloads that name none themselves
      - name: training
        priority: {value: 4, urls: [{regex: "/checkpoints/", value: 3}]}
    schedulerClusterConfig: {candidateParentLimit: 4, filterParentLimit: 128}
    seedPeerClusterConfig:               # for seeds
      loadLimit: 2000
      blockList: {task: {download: {applications: [], urls: [], tags: [], priorities: []}}}
    schedulerClusterClientConfig: {...}  # the same for all other hosts

This module says what the file may hold and turns it into `ClusterConfig`; `scheduler.runtime`
reads it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field

from odonata.settings.block_list import BlockListSection, Level, UrlPattern
from odonata.settings.dialect import CLUSTER, Dialect
from odonata.settings.loading import load
from odonata.settings.section import Section, Settings
from odonata.settings.value import Seconds
from scheduler.core.application import Application, UrlPriority
from scheduler.core.cluster import PEER_LOAD_LIMIT, SEED_LOAD_LIMIT, ClusterConfig

# Dragonfly's bounds.
CandidateLimit = Annotated[int, Field(ge=1, le=20)]
FilterLimit = Annotated[int, Field(ge=10, le=1000)]
SeedLoadLimit = Annotated[int, Field(ge=1, le=50_000)]
PeerLoadLimit = Annotated[int, Field(ge=1, le=2000)]


class UrlPrioritySection(Section):
    """A level for the URLs of an application that match."""

    regex: UrlPattern
    value: Level


class PrioritySection(Section):
    """The level of an application."""

    value: Level = 0
    urls: tuple[UrlPrioritySection, ...] = ()
    """The first that matches counts."""


class ApplicationSection(Section):
    """An application, as downloads name it."""

    name: str
    priority: PrioritySection = PrioritySection()


class SchedulerClusterSection(Section):
    """How many parents are named and looked at; None: as the scheduler's settings say."""

    candidate_parent_limit: CandidateLimit | None = None
    filter_parent_limit: FilterLimit | None = None
    """The most useful peers of a task that one decision compares (a sample if there are more)."""


class SeedPeerClusterSection(Section):
    """Seeds."""

    load_limit: SeedLoadLimit = SEED_LOAD_LIMIT
    block_list: BlockListSection = BlockListSection()


class ClientSection(Section):
    """All other hosts."""

    load_limit: PeerLoadLimit = PEER_LOAD_LIMIT
    block_list: BlockListSection = BlockListSection()


class ClusterFile(Settings):
    """The whole file."""

    program: ClassVar[str] = "dynconfig"
    dialect: ClassVar[Dialect] = CLUSTER

    refresh_interval_s: Seconds | None = None
    """How often the file is read again; None: as `dynConfig.refreshInterval` says."""
    applications: tuple[ApplicationSection, ...] = ()
    scheduler_cluster_config: SchedulerClusterSection = SchedulerClusterSection()
    seed_peer_cluster_config: SeedPeerClusterSection = SeedPeerClusterSection()
    scheduler_cluster_client_config: ClientSection = ClientSection()

    def config(self) -> ClusterConfig:
        """The same as plain values, for the core."""
        cluster, seeds = self.scheduler_cluster_config, self.seed_peer_cluster_config
        clients = self.scheduler_cluster_client_config
        return ClusterConfig(
            applications=tuple(
                Application(
                    name=one.name,
                    priority=one.priority.value,
                    url_priorities=tuple(
                        UrlPriority(regex=url.regex, value=url.value) for url in one.priority.urls
                    ),
                )
                for one in self.applications
            ),
            candidate_parent_limit=cluster.candidate_parent_limit,
            filter_parent_limit=cluster.filter_parent_limit,
            seed_load_limit=seeds.load_limit,
            peer_load_limit=clients.load_limit,
            seed_block_list=seeds.block_list.value(),
            peer_block_list=clients.block_list.value(),
        )


def read_cluster_file(path: Path) -> tuple[ClusterFile, tuple[str, ...]]:
    """Read the file; returns it and what is to be said about it. Raises SettingsError."""
    loaded = load(ClusterFile, file=path)
    return loaded.settings, loaded.warnings
