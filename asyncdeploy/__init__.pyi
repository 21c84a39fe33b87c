from asyncdeploy.collect.collect import sync_results as sync_results
from asyncdeploy.collect.limits import CollectLimits as CollectLimits
from asyncdeploy.connect.forward import Forward as Forward, forward as forward
from asyncdeploy.connect.limits import Limits as Limits
from asyncdeploy.connect.pool import Pool as Pool
from asyncdeploy.connect.ssh.host_keys import HostKeys as HostKeys
from asyncdeploy.deploy import (
    Deployment as Deployment,
    collect_results as collect_results,
    deploy_project as deploy_project,
    run_in_project as run_in_project,
    start_in_project as start_in_project,
)
from asyncdeploy.envs.base import Asset as Asset, Env as Env, Step as Step
from asyncdeploy.envs.bootstrap.bootstrap import bootstrap_env as bootstrap_env
from asyncdeploy.envs.docker import DockerEnv as DockerEnv
from asyncdeploy.envs.nix import NixEnv as NixEnv
from asyncdeploy.envs.registry import register_env as register_env
from asyncdeploy.envs.system import SystemEnv as SystemEnv
from asyncdeploy.envs.uv import UvEnv as UvEnv
from asyncdeploy.fleet.clean import clean as clean
from asyncdeploy.fleet.cluster import (
    RunningCluster as RunningCluster,
    dask_cluster as dask_cluster,
    ray_cluster as ray_cluster,
    run_on_cluster as run_on_cluster,
    start_on_cluster as start_on_cluster,
)
from asyncdeploy.fleet.collect import collect_all as collect_all, collect_logs as collect_logs
from asyncdeploy.fleet.deploy import deploy_all as deploy_all, deploy_and_run as deploy_and_run
from asyncdeploy.fleet.jobs import JobLine as JobLine, JobSet as JobSet, start_all as start_all
from asyncdeploy.fleet.launch import (
    diagnose_launch as diagnose_launch,
    fan_out as fan_out,
    find_launch as find_launch,
    follow_launch as follow_launch,
    preflight as preflight,
    stop_launch as stop_launch,
    wait_launch as wait_launch,
)
from asyncdeploy.fleet.launches import (
    LaunchList as LaunchList,
    explain_launch as explain_launch,
    launch_status as launch_status,
    list_launches as list_launches,
)
from asyncdeploy.fleet.plan import plan_all as plan_all
from asyncdeploy.fleet.planned import NodePlan as NodePlan, Plan as Plan
from asyncdeploy.fleet.push import push_all as push_all
from asyncdeploy.fleet.queue import QueueOutcome as QueueOutcome, run_queue as run_queue
from asyncdeploy.fleet.ready import wait_ready as wait_ready
from asyncdeploy.fleet.run import run_all as run_all
from asyncdeploy.launch.follow.diagnosis import Diagnosis as Diagnosis
from asyncdeploy.launch.follow.status import LaunchStatus as LaunchStatus
from asyncdeploy.launch.gang.attached import run_launch as run_launch
from asyncdeploy.launch.gang.restart import Restart as Restart
from asyncdeploy.launch.gang.start import start_launch as start_launch
from asyncdeploy.launch.gang.watch import end_launch as end_launch, watch_launch as watch_launch
from asyncdeploy.launch.launch import Launch as Launch, LaunchLine as LaunchLine
from asyncdeploy.launch.launchers.dask import DaskCluster as DaskCluster
from asyncdeploy.launch.launchers.ranks import Ranks as Ranks
from asyncdeploy.launch.launchers.ray import RayCluster as RayCluster
from asyncdeploy.launch.launchers.torchrun import Torchrun as Torchrun
from asyncdeploy.launch.placement import (
    Launcher as Launcher,
    NodePlace as NodePlace,
    Placement as Placement,
    rank_env as rank_env,
)
from asyncdeploy.launch.preflight.verdict import Preflight as Preflight
from asyncdeploy.launch.root_cause.describe import describe_failure as describe_failure
from asyncdeploy.local.cluster import LocalCluster as LocalCluster
from asyncdeploy.nodes.facts import Disk as Disk, Gpu as Gpu, NodeFacts as NodeFacts
from asyncdeploy.nodes.parallel import (
    iter_nodes as iter_nodes,
    map_nodes as map_nodes,
    partial_report as partial_report,
)
from asyncdeploy.nodes.parse import (
    Node as Node,
    NodeNote as NodeNote,
    fold_names as fold_names,
    parse_nodes as parse_nodes,
    read_hostfile as read_hostfile,
)
from asyncdeploy.nodes.report import FleetError as FleetError, Outcome as Outcome, Report as Report
from asyncdeploy.push.bundle.bundle import Bundle as Bundle, pack_workspace as pack_workspace
from asyncdeploy.push.push import push_code as push_code
from asyncdeploy.remote.probe import probe_node as probe_node
from asyncdeploy.run.attached import run_command as run_command
from asyncdeploy.run.job import Job as Job, JobStatus as JobStatus
from asyncdeploy.run.job_log import follow_job as follow_job
from asyncdeploy.run.jobs import (
    find_job as find_job,
    job_status as job_status,
    list_jobs as list_jobs,
    read_log as read_log,
    start_job as start_job,
    stop_job as stop_job,
    wait_job as wait_job,
)
from asyncdeploy.sources.rent.errors import (
    NotGivenBack as NotGivenBack,
    ProviderError as ProviderError,
    RentFailed as RentFailed,
)
from asyncdeploy.sources.rent.existing import provider_nodes as provider_nodes
from asyncdeploy.sources.rent.giving_back import Patience as Patience
from asyncdeploy.sources.rent.kept import read_rentals as read_rentals
from asyncdeploy.sources.rent.offers import find_offers as find_offers
from asyncdeploy.sources.rent.provider import Provider as Provider
from asyncdeploy.sources.rent.providers.lambda_cloud import LambdaCloud as LambdaCloud
from asyncdeploy.sources.rent.providers.prime import PrimeIntellect as PrimeIntellect
from asyncdeploy.sources.rent.providers.runpod import RunPod as RunPod
from asyncdeploy.sources.rent.providers.vast import Vast as Vast
from asyncdeploy.sources.rent.rent import (
    end_rental as end_rental,
    reap_rentals as reap_rentals,
    rent as rent,
    start_rental as start_rental,
)
from asyncdeploy.sources.rent.rental import Rental as Rental
from asyncdeploy.sources.rent.seen import FoundRental as FoundRental, find_rentals as find_rentals
from asyncdeploy.sources.rent.want import Instance as Instance, Offer as Offer, Order as Order, Want as Want
from asyncdeploy.sources.sky import sky_nodes as sky_nodes
from asyncdeploy.sources.slurm.allocation import (
    SlurmAllocation as SlurmAllocation,
    reap_allocations as reap_allocations,
    slurm_allocation as slurm_allocation,
)
from asyncdeploy.sources.slurm.job import slurm_nodes as slurm_nodes, slurm_until as slurm_until
from asyncdeploy.values.cleaned import Cleaned as Cleaned, CleanedItem as CleanedItem
from asyncdeploy.values.command import Command as Command, Completed as Completed
from asyncdeploy.values.errors import (
    Abandoned as Abandoned,
    AuthError as AuthError,
    BootstrapFailed as BootstrapFailed,
    Cancelled as Cancelled,
    CommandFailed as CommandFailed,
    CommandTimeout as CommandTimeout,
    ConnectError as ConnectError,
    ConnectionLost as ConnectionLost,
    DeadlineExceeded as DeadlineExceeded,
    DeployError as DeployError,
    HostKeyError as HostKeyError,
    JobExists as JobExists,
    JobFailed as JobFailed,
    JobLost as JobLost,
    LaunchFailed as LaunchFailed,
    NodeFull as NodeFull,
    NoShell as NoShell,
    PreflightFailed as PreflightFailed,
    ProgramFailed as ProgramFailed,
    ProtocolError as ProtocolError,
    Skipped as Skipped,
    ToolMissing as ToolMissing,
    TransferFailed as TransferFailed,
    WorkFailed as WorkFailed,
    WorkspaceBusy as WorkspaceBusy,
    WorkspaceConflict as WorkspaceConflict,
)
from asyncdeploy.values.events import (
    BytesMoved as BytesMoved,
    Event as Event,
    Noted as Noted,
    Observer as Observer,
    OutputLine as OutputLine,
    StageFailed as StageFailed,
    StageFinished as StageFinished,
    StageStarted as StageStarted,
    log_events as log_events,
)
from asyncdeploy.values.workspace import (
    Collected as Collected,
    CollectIncomplete as CollectIncomplete,
    Site as Site,
    Workspace as Workspace,
)
from asyncdeploy.view.live import live_view as live_view
from asyncdeploy.view.plain import print_events as print_events
from asyncdeploy.view.timeline import timeline as timeline, write_timeline as write_timeline

__version__: str
