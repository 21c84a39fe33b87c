"""asyncdeploy: from N machines you can ssh to, to a running multi-node job and its results, in one await."""

from asyncdeploy.values.face import open_on_demand

# Which room hands on which names. A room is imported when somebody asks for one of its names: a script that runs
# commands pays for no launches. __init__.pyi says the same to type checkers and editors; a test compares them.
_ROOMS = {
    "collect.collect": "sync_results",
    "collect.limits": "CollectLimits",
    "connect.forward": "Forward forward",
    "connect.limits": "Limits",
    "connect.pool": "Pool",
    "connect.ssh.host_keys": "HostKeys",
    "deploy": "Deployment collect_results deploy_project run_in_project start_in_project",
    "envs.base": "Asset Env Step",
    "envs.bootstrap.bootstrap": "bootstrap_env",
    "envs.docker": "DockerEnv",
    "envs.nix": "NixEnv",
    "envs.registry": "register_env",
    "envs.system": "SystemEnv",
    "envs.uv": "UvEnv",
    "fleet.clean": "clean",
    "fleet.cluster": "RunningCluster dask_cluster ray_cluster run_on_cluster start_on_cluster",
    "fleet.collect": "collect_all collect_logs",
    "fleet.deploy": "deploy_all deploy_and_run",
    "fleet.jobs": "JobLine JobSet",
    "fleet.launch": "diagnose_launch fan_out find_launch follow_launch preflight stop_launch wait_launch",
    "fleet.launches": "LaunchList launch_status list_launches",
    "fleet.plan": "plan_all",
    "fleet.planned": "NodePlan Plan",
    "fleet.push": "push_all",
    "fleet.queue": "QueueOutcome run_queue",
    "fleet.ready": "wait_ready",
    "fleet.run": "run_all start_all",
    "launch.follow.diagnosis": "Diagnosis",
    "launch.follow.status": "LaunchStatus",
    "launch.gang.attached": "run_launch",
    "launch.gang.restart": "Restart",
    "launch.gang.start": "start_launch",
    "launch.gang.watch": "end_launch watch_launch",
    "launch.launch": "Launch LaunchLine",
    "launch.launchers.dask": "DaskCluster",
    "launch.launchers.ranks": "Ranks",
    "launch.launchers.ray": "RayCluster",
    "launch.launchers.torchrun": "Torchrun",
    "launch.placement": "Launcher NodePlace Placement rank_env",
    "launch.preflight.verdict": "Preflight",
    "launch.root_cause.describe": "describe_failure",
    "local.cluster": "LocalCluster",
    "nodes.facts": "Disk Gpu NodeFacts",
    "nodes.parallel": "iter_nodes map_nodes partial_report",
    "nodes.parse": "Node NodeNote fold_names parse_nodes read_hostfile",
    "nodes.report": "FleetError Outcome Report",
    "push.bundle.bundle": "Bundle pack_workspace",
    "push.push": "push_code",
    "remote.probe": "probe_node",
    "run.attached": "run_command",
    "run.job": "Job JobStatus",
    "run.job_log": "follow_job",
    "run.jobs": "find_job job_status list_jobs read_log start_job stop_job wait_job",
    "sources.slurm.job": "slurm_nodes slurm_until",
    "values.cleaned": "Cleaned CleanedItem",
    "values.command": "Command Completed",
    "values.errors": (
        "Abandoned AuthError BootstrapFailed Cancelled CommandFailed CommandTimeout ConnectError "
        "ConnectionLost DeadlineExceeded DeployError HostKeyError JobExists JobFailed JobLost LaunchFailed "
        "NodeFull NoShell PreflightFailed ProgramFailed ProtocolError Skipped ToolMissing TransferFailed "
        "WorkFailed WorkspaceBusy WorkspaceConflict"
    ),
    "values.events": ("BytesMoved Event Noted Observer OutputLine StageFailed StageFinished StageStarted log_events"),
    "values.workspace": "Collected CollectIncomplete Site Workspace",
    "view.live": "live_view",
    "view.plain": "print_events",
    "view.timeline": "timeline write_timeline",
}
__all__ = sorted(name for names in _ROOMS.values() for name in names.split())
__getattr__, __dir__ = open_on_demand(__name__, _ROOMS)
