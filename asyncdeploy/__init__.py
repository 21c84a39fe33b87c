"""asyncdeploy: from N machines you can ssh to, to a running multi-node job and its results, in one await."""

from asyncdeploy.collect.collect import sync_results
from asyncdeploy.collect.limits import CollectLimits
from asyncdeploy.connect.limits import Limits
from asyncdeploy.connect.pool import Pool
from asyncdeploy.connect.ssh.host_keys import HostKeys
from asyncdeploy.deploy import Deployment, collect_results, deploy_project, run_in_project, start_in_project
from asyncdeploy.envs.base import Asset, Env, Step
from asyncdeploy.envs.bootstrap.bootstrap import bootstrap_env
from asyncdeploy.envs.docker import DockerEnv
from asyncdeploy.envs.nix import NixEnv
from asyncdeploy.envs.registry import register_env
from asyncdeploy.envs.system import SystemEnv
from asyncdeploy.envs.uv import UvEnv
from asyncdeploy.fleet.collect import collect_all, collect_logs
from asyncdeploy.fleet.deploy import deploy_all, deploy_and_run, push_all
from asyncdeploy.fleet.launch import (
    diagnose_launch,
    fan_out,
    find_launch,
    follow_launch,
    preflight,
    stop_launch,
    wait_launch,
)
from asyncdeploy.fleet.ready import wait_ready
from asyncdeploy.fleet.run import run_all, start_all
from asyncdeploy.launch.follow.diagnosis import Diagnosis
from asyncdeploy.launch.gang.attached import run_launch
from asyncdeploy.launch.gang.restart import Restart
from asyncdeploy.launch.gang.start import start_launch
from asyncdeploy.launch.gang.watch import end_launch, watch_launch
from asyncdeploy.launch.launch import Launch, LaunchLine
from asyncdeploy.launch.launchers.ranks import Ranks
from asyncdeploy.launch.launchers.torchrun import Torchrun
from asyncdeploy.launch.placement import Launcher, NodePlace, Placement, rank_env
from asyncdeploy.launch.preflight.verdict import Preflight
from asyncdeploy.launch.root_cause.describe import describe_failure
from asyncdeploy.local.cluster import LocalCluster
from asyncdeploy.nodes.facts import Disk, Gpu, NodeFacts
from asyncdeploy.nodes.parallel import iter_nodes, map_nodes, partial_report
from asyncdeploy.nodes.parse import Node, NodeNote, fold_names, parse_nodes, read_hostfile
from asyncdeploy.nodes.report import FleetError, Outcome, Report
from asyncdeploy.push.bundle.bundle import Bundle, pack_workspace
from asyncdeploy.push.push import push_code
from asyncdeploy.remote.probe import probe_node
from asyncdeploy.run.attached import run_command
from asyncdeploy.run.job import Job, JobStatus
from asyncdeploy.run.job_log import follow_job
from asyncdeploy.run.jobs import find_job, job_status, list_jobs, read_log, start_job, stop_job, wait_job
from asyncdeploy.values.command import Command, Completed
from asyncdeploy.values.errors import (
    Abandoned,
    AuthError,
    BootstrapFailed,
    Cancelled,
    CommandFailed,
    CommandTimeout,
    ConnectError,
    ConnectionLost,
    DeadlineExceeded,
    DeployError,
    HostKeyError,
    JobExists,
    JobFailed,
    JobLost,
    LaunchFailed,
    NodeFull,
    NoShell,
    PreflightFailed,
    ProgramFailed,
    ProtocolError,
    Skipped,
    ToolMissing,
    TransferFailed,
    WorkFailed,
    WorkspaceBusy,
    WorkspaceConflict,
)
from asyncdeploy.values.events import (
    BytesMoved,
    Event,
    Noted,
    Observer,
    OutputLine,
    StageFailed,
    StageFinished,
    StageStarted,
    log_events,
    print_events,
)
from asyncdeploy.values.face import claim_names
from asyncdeploy.values.workspace import Collected, CollectIncomplete, Site, Workspace

__all__ = [
    "Abandoned",
    "Asset",
    "AuthError",
    "BootstrapFailed",
    "Bundle",
    "BytesMoved",
    "Cancelled",
    "CollectIncomplete",
    "CollectLimits",
    "Collected",
    "Command",
    "CommandFailed",
    "CommandTimeout",
    "Completed",
    "ConnectError",
    "ConnectionLost",
    "DeadlineExceeded",
    "DeployError",
    "Deployment",
    "Diagnosis",
    "Disk",
    "DockerEnv",
    "Env",
    "Event",
    "FleetError",
    "Gpu",
    "HostKeyError",
    "HostKeys",
    "Job",
    "JobExists",
    "JobFailed",
    "JobLost",
    "JobStatus",
    "Launch",
    "LaunchFailed",
    "LaunchLine",
    "Launcher",
    "Limits",
    "LocalCluster",
    "NixEnv",
    "NoShell",
    "Node",
    "NodeFacts",
    "NodeFull",
    "NodeNote",
    "NodePlace",
    "Noted",
    "Observer",
    "Outcome",
    "OutputLine",
    "Placement",
    "Pool",
    "Preflight",
    "PreflightFailed",
    "ProgramFailed",
    "ProtocolError",
    "Ranks",
    "Report",
    "Restart",
    "Site",
    "Skipped",
    "StageFailed",
    "StageFinished",
    "StageStarted",
    "Step",
    "SystemEnv",
    "ToolMissing",
    "Torchrun",
    "TransferFailed",
    "UvEnv",
    "WorkFailed",
    "Workspace",
    "WorkspaceBusy",
    "WorkspaceConflict",
    "bootstrap_env",
    "collect_all",
    "collect_logs",
    "collect_results",
    "deploy_all",
    "deploy_and_run",
    "deploy_project",
    "describe_failure",
    "diagnose_launch",
    "end_launch",
    "fan_out",
    "find_job",
    "find_launch",
    "fold_names",
    "follow_job",
    "follow_launch",
    "iter_nodes",
    "job_status",
    "list_jobs",
    "log_events",
    "map_nodes",
    "pack_workspace",
    "parse_nodes",
    "partial_report",
    "preflight",
    "print_events",
    "probe_node",
    "push_all",
    "push_code",
    "rank_env",
    "read_hostfile",
    "read_log",
    "register_env",
    "run_all",
    "run_command",
    "run_in_project",
    "run_launch",
    "start_all",
    "start_in_project",
    "start_job",
    "start_launch",
    "stop_job",
    "stop_launch",
    "sync_results",
    "wait_job",
    "wait_launch",
    "wait_ready",
    "watch_launch",
]

claim_names(__name__, __all__)
