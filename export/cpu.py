"""What this CPU can do with 8-bit numbers. Never imports torch."""

import platform
from pathlib import Path

INT8_FLAGS = ("avx512_vnni", "avx_vnni", "avx_vnni_int8", "amx_int8", "asimddp", "i8mm")
"""Instructions that multiply and add 8-bit numbers without saturating, as Linux names them."""


def int8_instructions(cpuinfo: Path = Path("/proc/cpuinfo")) -> tuple[str, ...]:
    """Those of ``INT8_FLAGS`` that this CPU has; none where the system does not say.

    Without them 8-bit products of unsigned and signed numbers may saturate, and are hardly faster than float32.
    """
    if platform.system() == "Darwin" and platform.machine() == "arm64":
        return ("asimddp",)  # every Apple CPU
    try:
        text = cpuinfo.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ()
    named = {flag for line in text.splitlines() if line.startswith(("flags", "Features")) for flag in line.split()}
    return tuple(flag for flag in INT8_FLAGS if flag in named)
