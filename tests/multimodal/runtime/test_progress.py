import logging

import pytest

from multimodal.runtime.progress import Progress, format_seconds, quiet


class Clock:
    """Stands in for time.monotonic."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("multimodal.runtime.progress.time.monotonic", clock)
    return clock


def test_a_line_says_the_rate_and_the_time_left(clock, caplog):
    progress = Progress(10, every_seconds=5)
    for _ in range(4):
        clock.now += 2
        progress.advance(16, "step")
    # 16 records in 2 s; after the third step 6 of 20 s have gone, 7 steps are left
    assert caplog.messages == ["step, 8 records/s, 0:14 left"]


def test_lines_come_at_most_as_often_as_asked(clock, caplog):
    progress = Progress(100, every_seconds=10)
    for _ in range(100):
        clock.now += 1
        progress.advance(1, f"{progress.done + 1}")
    assert [line.split(",")[0] for line in caplog.messages] == [str(10 * number) for number in range(1, 11)]


def test_after_a_resume_only_this_process_s_steps_count_for_the_rate(clock):
    progress = Progress(100, done=90)
    for _ in range(5):
        clock.now += 2
        progress.advance(8, "")
    assert progress.done == 95
    assert progress.pace() == "4 records/s, 0:10 left"


def test_there_is_a_pace_before_the_first_step_and_without_time(clock):
    assert Progress(0).pace() == "0 records/s, 0:00 left"


@pytest.mark.parametrize(
    ("seconds", "expected"), [(0, "0:00"), (59.4, "0:59"), (59.6, "1:00"), (75, "1:15"), (3600, "60:00")]
)
def test_seconds_become_minutes_and_seconds(seconds, expected):
    assert format_seconds(seconds) == expected


def test_in_a_quiet_block_errors_alone_are_logged_but_for_one_logger(caplog):
    logger, other = logging.getLogger("multimodal.job"), logging.getLogger("multimodal.runtime.workers")
    with quiet(but=other.name):
        logger.info("a")
        logger.warning("b")
        logger.error("c")
        other.info("d")
        other.warning("e")
    logger.info("f")
    assert caplog.messages == ["c", "e", "f"]
