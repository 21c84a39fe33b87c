"""The table of deaths (docs/how-it-works.md, "Who watches whom") is a test: each of its rows is played on real nodes.

A row is played by the tests named here, and each test of this folder plays a row. Tests of other folders are named
where they play one already.
"""

import ast
import functools
from pathlib import Path

import pytest

from tests.support.places import ROOT

# What dies, as the table names it, and who plays that: "folder/file::test", without "test_".
PLAYED = """
the client
    deaths/around::a_client_that_dies_or_sleeps_stops_no_rank
    run/leash::our_own_sigkill
    run/leash::b7_a_nap_longer_than_the_silence
    run/real_jobs::f1_a_job_outlives_us_and_sshd
the client's network
    launch/gang/sight::l1_our_own_blindness_stops_nobody
    launch/gang/sight::l1_one_node_out_of_our_sight_is_left_alone_while_another_runs
    launch/gang/sight::l1_what_nobody_can_see_is_unknown_and_lives
    run/leash::b10_a_line_that_goes_dead_without_a_word
sshd
    deaths/around::an_sshd_that_dies_or_stands_still_stops_no_rank
    run/leash::the_sessions_sshd_is_killed
    run/real_jobs::a_wait_goes_on_through_a_restart_of_sshd
a worker that is killed (out of memory)
    run/killed/worker::j13_nothing_stays_behind_one_that_is_killed
    run/killed/worker::j13_what_a_leader_left_when_its_worker_is_killed
    run/killed/worker::j13_over_sshd
    run/attached::a_worker_that_was_killed_is_unknown_never_success
a worker's keeper
    run/killed/worker::j13_nothing_stays_behind_one_that_is_killed
    run/killed/worker::j13_no_keeper_stays_without_its_worker
worker and keeper of a run together
    deaths/around::a_run_that_nobody_holds_goes_on_and_is_unknown
/proc, or descriptors to read it, are gone
    run/killed/blind::j13_a_timeout_without_proc
    run/killed/blind::j13_no_descriptor_is_left_for_the_sweep
    run/killed/blind::j13_a_job_is_not_lost_because_nobody_can_look
a worker that stands still (SIGSTOP, a dead NFS)
    deaths/around::workers_that_die_or_hang_stop_no_rank
    connect/silence::r5_a_worker_that_hangs_is_given_up
    connect/silence::r5_a_question_about_a_job_leaves_a_worker_that_hangs
the leader of a job
    run/jobs::the_end_is_recorded_exactly
    run/attached::what_the_leader_leaves_behind_is_ended
    launch/gang/failures::l3_a_stop_that_comes_behind_the_end_did_not_cause_it
a leader or a rank that stands still (SIGSTOP, a hang)
    deaths/ranks::a_rank_that_stands_still_is_said_and_can_be_stopped
    launch/follow/hangs::silence_is_said_with_where_all_stand
a process that KILL does not end
    launch/gang/failures::l10_a_leader_that_waits_for_what_kill_does_not_end_is_the_cause
one local rank
    deaths/ranks::one_local_rank_that_dies_ends_those_beside_it_and_all_others
    launch/gang/gang::f13_one_that_fails_ends_the_others_while_nobody_watches
    launch/gang/real_launch::the_others_end_when_one_fails
a supervisor
    run/jobs/keeper::j12_one_is_killed_and_the_end_is_told
    run/jobs/keeper::j12_what_hides_from_everybody_is_ended_by_the_keeper
    run/jobs/keeper::j12_the_keeper_stops_it_and_keeps_its_time
    run/jobs/keeper::j12_killed_at_any_moment_of_a_short_life
    launch/gang/keeper::j12_a_launch_whose_watchers_are_killed_goes_on
    launch/gang/keeper::j12_an_end_that_a_keeper_hears_ends_the_others
a supervisor and its keeper, of a job
    run/jobs::a_killed_supervisor_and_keeper_leave_an_orphan_that_can_be_stopped
    run/real_jobs::f5_supervisor_and_keeper_are_killed
a supervisor and its keeper, of a rank
    launch/gang/start::f5_a_rank_that_nobody_holds_is_the_cause_at_once
    launch/gang/gang::f5_a_rank_that_nobody_holds_is_ended_by_its_guard_while_nobody_watches
a supervisor that stands still (SIGSTOP)
    run/jobs/starts_and_stops::j3_a_supervisor_that_somebody_has_stopped_obeys_all_the_same
    run/jobs/keeper::j12_a_supervisor_that_does_not_act_is_replaced
a keeper, a guard, both, or a guard and the supervisor
    launch/gang/keeper::j12_a_launch_whose_watchers_are_killed_goes_on
    launch/gang/keeper::j12_a_guard_that_is_killed_is_replaced
    run/jobs/keeper::j12_one_is_killed_and_the_end_is_told
supervisor, keeper and guard of a rank together
    launch/gang/keeper::j12_where_all_three_are_killed_the_other_nodes_end_and_a_stop_ends_the_rank
a node, or its network
    launch/gang/gang::f13_a_node_that_falls_silent_ends_the_others
    launch/gang/start::a_host_that_dies_while_it_runs
    launch/gang/restart::a_node_that_fell_silent_needs_a_spare
a node that stands still (a host that is paused)
    deaths/machines::a_node_that_stands_still_ends_the_others_and_then_itself
    launch/gang/gang::a_first_node_that_stood_still_ends_when_it_hears_that_the_others_have
a node that is booted again
    launch/gang/failures::l4_a_node_that_was_booted_again_is_the_cause_and_is_answered
    launch/gang/failures::l4_all_processes_killed_is_a_failure_too
rank 0's node
    launch/gang/gang::f13_a_node_that_falls_silent_ends_the_others
    launch/gang/gang::f13_the_first_node_may_be_the_one_that_fails
    launch/gang/gang::who_was_never_heard_of_is_not_waited_for_without_end
a clock that is set
    deaths/machines::l2_a_clock_that_is_set_makes_no_healthy_node_the_cause
    deaths/machines::a_clock_that_is_set_ends_nothing
    push/places::e20_a_clock_that_is_years_off_costs_nothing
a full disk
    run/real_jobs::f10_a_log_that_fills_the_disk_does_not_lose_the_end
    run/jobs/starts_and_stops::j2_a_job_that_has_filled_its_disk_is_stopped_with_the_grace_that_was_asked_for
    run/full::r20_a_home_that_takes_nothing
    run/disks::r20_no_room_anywhere_is_said_with_the_folders
a disk that fails once
    run/jobs/starts_and_stops::j9_a_disk_that_fails_once_at_the_end_loses_no_status
    run/jobs/starts_and_stops::j6_what_could_not_be_started_does_not_run
a disk that stands still
    launch/gang/frozen_disk::l14_a_disk_that_stands_still_silences_no_supervisor
nvidia-smi, loginctl, tmux that hang
    launch/gang/gpu_left::l9_the_end_is_written_before_the_driver_is_asked
    remote/tools::l9_a_tool_that_cannot_be_killed_is_left_behind
    run/jobs/starts_and_stops::j8_a_start_cancelled_while_its_window_is_opened_leaves_no_job
a machine that is given another name
    run/jobs/renamed::j1_a_job_goes_on_under_another_name
"""


def rows() -> list[str]:
    """The first column of the table, in its order."""
    text = (ROOT / "docs/how-it-works.md").read_text().partition("## Who watches whom")[2].partition("\n## ")[0]
    table = [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("|")]
    return table[2:]  # behind its head


def played() -> dict[str, list[str]]:
    """Of each row the tests that play it."""
    found: dict[str, list[str]] = {}
    row = ""
    for line in PLAYED.strip().splitlines():
        if line.startswith(" "):
            found[row].append(line.strip())
        else:
            row = line
            found[row] = []
    return found


@functools.cache
def names_in(path: Path) -> set[str]:
    """The names of a file's tests."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in ast.parse(path.read_text()).body if isinstance(node, kinds)}


def test_each_row_is_played_and_nothing_else() -> None:
    assert list(played()) == rows()


@pytest.mark.parametrize("row", played())
def test_who_plays_a_row_exists(row: str) -> None:
    for test in played()[row]:
        file, _, name = test.partition("::")
        folder, _, stem = file.rpartition("/")
        assert f"test_{name}" in names_in(ROOT / "tests" / folder / f"test_{stem}.py"), test


def test_each_test_of_this_folder_plays_a_row() -> None:
    named = {test for tests in played().values() for test in tests}
    for path in sorted(Path(__file__).parent.glob("test_*.py")):
        for name in sorted(names_in(path)):
            if path != Path(__file__) and name.startswith("test_") and name != "test_random_kills":
                assert f"deaths/{path.stem.removeprefix('test_')}::{name.removeprefix('test_')}" in named, name
