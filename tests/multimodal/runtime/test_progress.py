import pytest

from multimodal.runtime.progress import Progress, format_seconds


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


def test_a_line_says_the_rate_and_the_time_left(clock):
    lines: list[str] = []
    progress = Progress(lines.append, 10, every_seconds=5)
    for _ in range(4):
        clock.now += 2
        progress.advance(16, "step")
    # 16 records in 2 s; after the third step 6 of 20 s have gone, 7 steps are left
    assert lines == ["step, 8 records/s, 0:14 left"]


def test_lines_come_at_most_as_often_as_asked(clock):
    lines: list[str] = []
    progress = Progress(lines.append, 100, every_seconds=10)
    for _ in range(100):
        clock.now += 1
        progress.advance(1, f"{progress.done + 1}")
    assert [line.split(",")[0] for line in lines] == [str(10 * number) for number in range(1, 11)]


def test_after_a_resume_only_this_process_s_steps_count_for_the_rate(clock):
    progress = Progress(lambda line: None, 100, done=90)
    for _ in range(5):
        clock.now += 2
        progress.advance(8, "")
    assert progress.done == 95
    assert progress.pace() == "4 records/s, 0:10 left"


def test_there_is_a_pace_before_the_first_step_and_without_time(clock):
    assert Progress(lambda line: None, 0).pace() == "0 records/s, 0:00 left"


@pytest.mark.parametrize(
    ("seconds", "expected"), [(0, "0:00"), (59.4, "0:59"), (59.6, "1:00"), (75, "1:15"), (3600, "60:00")]
)
def test_seconds_become_minutes_and_seconds(seconds, expected):
    assert format_seconds(seconds) == expected
