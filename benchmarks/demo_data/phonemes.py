"""Phones of the ten spoken digits: their lengths, formants and sources."""

from typing import NamedTuple


class Phone(NamedTuple):
    """A target that the voice moves towards; sizes of an adult male voice."""

    milliseconds: float
    formants: tuple[float, float, float]
    """Resonances of the vocal tract, in Hz."""
    voiced: float = 0.0
    """Strength of the vocal cords, 0..1."""
    breath: float = 0.0
    """Strength of noise from the throat, which passes the vocal tract."""
    hiss: float = 0.0
    """Strength of noise from teeth and lips, which does not."""
    hiss_band: tuple[float, float] = (5000.0, 2000.0)
    """Middle and half-width of that noise, in Hz."""


# Formants of vowels: Peterson and Barney (1952), table II, men. Consonants: near Klatt (1980), table III.
_IY = (270.0, 2290.0, 3010.0)
_IH = (390.0, 1990.0, 2550.0)
_EH = (530.0, 1840.0, 2480.0)
_AH = (640.0, 1190.0, 2390.0)
_AA = (730.0, 1090.0, 2440.0)
_AO = (570.0, 840.0, 2410.0)
_OW = (460.0, 880.0, 2300.0)
_UW = (300.0, 870.0, 2240.0)
_R = (310.0, 1060.0, 1380.0)
_W = (290.0, 610.0, 2150.0)
_N = (300.0, 1340.0, 2470.0)
_V = (220.0, 1100.0, 2080.0)
_Z = (240.0, 1390.0, 2530.0)
_TH = (320.0, 1290.0, 2540.0)
_F = (340.0, 1100.0, 2080.0)
_T = (350.0, 1800.0, 2600.0)
_K = (300.0, 1990.0, 2850.0)

_S_BAND, _F_BAND, _TH_BAND = (5600.0, 1500.0), (5000.0, 3500.0), (6200.0, 2500.0)
_T_BAND, _K_BAND = (4600.0, 1600.0), (2300.0, 700.0)


def _fricative(formants: tuple[float, float, float], ms: float, hiss: float, band: tuple[float, float]) -> Phone:
    return Phone(ms, formants, hiss=hiss, hiss_band=band)


_NASAL = Phone(95, _N, voiced=0.5)
_STOP_K = (Phone(60, _K), Phone(18, _K, hiss=0.55, hiss_band=_K_BAND, breath=0.2), Phone(18, _K, breath=0.2))
_STOP_T = (Phone(55, _T), Phone(16, _T, hiss=0.6, hiss_band=_T_BAND), Phone(35, _T, breath=0.3))
_SAY_S = _fricative(_T, 110, 0.5, _S_BAND)
_SAY_F = _fricative(_F, 100, 0.14, _F_BAND)

DIGITS: tuple[tuple[Phone, ...], ...] = (
    (  # zero
        Phone(75, _Z, voiced=0.35, hiss=0.25, hiss_band=_S_BAND),
        Phone(95, _IH, voiced=0.9),
        Phone(70, _R, voiced=0.75),
        Phone(90, (540.0, 1000.0, 2300.0), voiced=1.0),
        Phone(100, _OW, voiced=0.8),
    ),
    (Phone(70, _W, voiced=0.6), Phone(140, _AH, voiced=1.0), _NASAL, Phone(40, _N, voiced=0.25)),  # one
    (*_STOP_T, Phone(60, (320.0, 1300.0, 2300.0), voiced=0.9), Phone(150, _UW, voiced=0.9)),  # two
    (  # three
        _fricative(_TH, 90, 0.09, _TH_BAND),
        Phone(70, _R, voiced=0.75),
        Phone(190, _IY, voiced=0.95),
    ),
    (_SAY_F, Phone(170, _AO, voiced=1.0), Phone(90, (420.0, 1150.0, 1600.0), voiced=0.75)),  # four
    (  # five
        _SAY_F,
        Phone(120, _AA, voiced=1.0),
        Phone(80, (430.0, 1850.0, 2500.0), voiced=0.9),
        Phone(80, _V, voiced=0.3, hiss=0.05, hiss_band=_F_BAND),
    ),
    (_SAY_S, Phone(80, _IH, voiced=0.95), *_STOP_K, _SAY_S),  # six
    (  # seven
        _SAY_S,
        Phone(110, _EH, voiced=1.0),
        Phone(50, _V, voiced=0.5, hiss=0.04, hiss_band=_F_BAND),
        Phone(80, (500.0, 1500.0, 2400.0), voiced=0.85),
        _NASAL,
    ),
    (  # eight
        Phone(100, (490.0, 1850.0, 2500.0), voiced=1.0),
        Phone(120, (330.0, 2200.0, 2800.0), voiced=0.9),
        Phone(60, _T),
        Phone(14, _T, hiss=0.25, hiss_band=_T_BAND),
        Phone(25, _T, breath=0.1),
    ),
    (  # nine
        _NASAL,
        Phone(110, _AA, voiced=1.0),
        Phone(110, (400.0, 2000.0, 2600.0), voiced=0.95),
        _NASAL,
    ),
)
"""The phones of each digit, in order."""
