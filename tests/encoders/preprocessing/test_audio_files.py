"""Files are decoded to their end, wherever their header says or guesses that it is."""

import io
import struct

import numpy as np
import pytest
import soundfile
from support.assertions import assert_close
from support.audio_faults import (
    ape,
    chunk,
    claimed,
    claiming,
    encoded,
    flac_claiming,
    id3,
    last_page_claiming,
    mpeg_wav,
    noise,
    ogg_pages,
    read,
    sized,
    without_length,
)

from encoders.preprocessing import UnreadableValueError
from encoders.preprocessing.audio import decode_audio
from encoders.preprocessing.audio_files import audio_size

DELAY = 576 + 529  # samples of LAME's encoder and of a decoder, which are cut off where the header names them
ID3V1 = b"TAG" + bytes(125)


def mp3(rate: int = 16_000, seconds: float = 1.5, seed: int = 0, channels: int = 1, **options: object) -> bytes:
    samples = np.repeat(noise(round(rate * seconds), seed)[:, None], channels, axis=1)
    return encoded(samples, rate, "MP3", **options)


def samples_in(data: bytes) -> int:
    """Of its frames, delay and padding included."""
    rate = soundfile.info(io.BytesIO(data)).samplerate
    return claimed(data) * (1152 if rate > 24_000 else 576)


# --- mp3 ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["CONSTANT", "AVERAGE", "VARIABLE"])
@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 24_000, 32_000, 48_000])
@pytest.mark.parametrize("channels", [1, 2])
def test_an_mp3_without_a_length_is_decoded_to_its_last_frame(mode, rate, channels):
    whole = mp3(rate, channels=channels, bitrate_mode=mode, compression_level=0.5)
    data = without_length(whole)
    waveform, hertz = decode_audio(data)
    assert (len(waveform), hertz) == (samples_in(whole), rate)
    inner = read(whole)[2000:-2000]  # at its ends a frame needs bits of one that was taken out
    assert_close(waveform[DELAY + 2000 :][: len(inner)], inner, "float32")
    assert audio_size(data, 10**7) == (len(waveform), channels)


@pytest.mark.parametrize(
    "form", ["plain", "tag before", "tags before", "ID3v1", "APE", "zeros", "junk", "text", "in a wav"]
)
def test_what_is_no_frame_is_not_taken_for_length(form):
    whole = mp3(44_100, bitrate_mode="VARIABLE")
    frames = without_length(whole)
    files = {
        "plain": frames,
        "tag before": id3(3000) + frames,
        "tags before": id3(10) + id3(200) + frames,
        "ID3v1": frames + ID3V1,
        "APE": frames + ape(np.random.default_rng(1).bytes(90_000)) + ID3V1,
        "zeros": frames + bytes(50_000),
        "junk": frames + np.random.default_rng(2).bytes(50_000),
        "text": frames + b"LYRICSBEGIN" + b"la " * 800 + b"LYRICS200",
        "in a wav": mpeg_wav(frames, 44_100),
    }
    np.testing.assert_array_equal(decode_audio(files[form])[0], decode_audio(frames)[0])
    assert len(decode_audio(frames)[0]) == samples_in(whole)


@pytest.mark.parametrize("frames", [0, 1, 7, 30, -1])
@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_an_mp3_that_claims_fewer_frames_than_it_has_is_read_whole(frames, rate):
    whole = mp3(rate)
    lying = claiming(whole, frames if frames >= 0 else claimed(whole) - 1)
    waveform = decode_audio(lying)[0]
    assert_close(waveform[DELAY:][: len(read(whole))], read(whole), "float32")
    assert audio_size(lying, 10**7)[0] == len(waveform)


@pytest.mark.parametrize("more", [1, 3, 50, 1000])
def test_an_mp3_that_claims_more_frames_than_it_has_is_truncated(more):
    whole = mp3()
    with pytest.raises(
        UnreadableValueError, match=r"\d+ of its \d+ samples can be decoded; it is truncated or damaged"
    ):
        decode_audio(claiming(whole, claimed(whole) + more))


@pytest.mark.parametrize("between", [b"", id3(2000), ID3V1, ape(bytes(5000)), bytes(300), ID3V1 + id3(40)])
@pytest.mark.parametrize("has_length", [True, False])
def test_mp3_files_after_one_another_are_read_to_the_end_of_the_last(between, has_length):
    first, second = mp3(), mp3(seconds=1.0, seed=1)
    frames, last = samples_in(first) + samples_in(second), decode_audio(without_length(second))[0]
    if not has_length:
        first, second = without_length(first), without_length(second)
    waveform = decode_audio(first + between + second)[0]
    assert len(waveform) == frames + (576 if has_length else 0)  # the second's header is silence
    assert_close(waveform[-12_000:], last[-12_000:], "float32")


@pytest.mark.parametrize(
    "other", [{"rate": 24_000}, {"rate": 44_100}, {"rate": 8_000}, {"channels": 2}, {"rate": 22_050}]
)
@pytest.mark.parametrize("has_length", [True, False])
def test_mp3_files_of_other_kinds_after_one_another_are_refused(other, has_length):
    files = [mp3(), mp3(**other)]
    data = b"".join(files if has_length else map(without_length, files))
    with pytest.raises(UnreadableValueError, match=r"changes its sample rate or its channels after 1\.\d\d s; files"):
        decode_audio(data)


@pytest.mark.parametrize("between", [id3(0), ID3V1, ape(b""), bytes(40), id3(1)])
def test_an_mp3_with_something_between_all_its_frames_is_refused(between):
    data = without_length(mp3())
    with pytest.raises(UnreadableValueError, match="holds too much between its frames that is no audio; convert it"):
        decode_audio(data + (between + data[:4000]) * 60)


LARGE = {
    "ID3v2": id3(6_000_000),
    "APE": ape(bytes(6_000_000)),
    "both": id3(3_000_000) + ape(bytes(3_000_000)),
    "ID3v1 and ID3v2": ID3V1 + id3(5_000_000),
    "as large as is read at once": id3(4_990_000),
    "two of ID3v2": id3(2_600_000) * 2,
}


@pytest.mark.parametrize("between", LARGE)
@pytest.mark.parametrize("has_length", [True, False])
def test_an_mp3_that_another_follows_after_more_than_is_read_at_once_is_refused(between, has_length):
    files = [mp3(), mp3(seed=1)] if has_length else [without_length(mp3()), without_length(mp3(seed=1))]
    with pytest.raises(UnreadableValueError, match="holds too much between its frames that is no audio; convert it"):
        decode_audio(LARGE[between].join(files))


@pytest.mark.parametrize("after", LARGE)
@pytest.mark.parametrize("has_length", [True, False])
def test_large_tags_at_the_end_of_an_mp3_are_no_audio(after, has_length):
    data = mp3() if has_length else without_length(mp3())
    np.testing.assert_array_equal(decode_audio(data + LARGE[after])[0], decode_audio(data)[0])


def test_an_mp3_of_free_format_is_read_to_its_end():
    data = bytearray(without_length(mp3(48_000, bitrate_mode="CONSTANT", compression_level=0.5)))
    expected = decode_audio(bytes(data))[0]
    size = data.index(data[:2], 4)
    for place in range(0, len(data), size):
        assert data[place : place + 2] == data[:2]  # every frame has the same size
        data[place + 2] &= 0x0F  # the bit rate's index
    np.testing.assert_array_equal(decode_audio(bytes(data))[0], expected)
    assert audio_size(bytes(data), 10**7) == (len(expected), 1)
    assert 10_000 < audio_size(bytes(data), 10_000)[0] < len(expected)


def test_an_mp3_without_a_length_is_not_decoded_beyond_the_limit(monkeypatch):
    data = without_length(mp3(8_000, seconds=61, bitrate_mode="CONSTANT"))
    monkeypatch.delattr(soundfile.SoundFile, "read")
    for lying in (data, id3(100) + data, claiming(mp3(8_000, seconds=61), 5)):
        with pytest.raises(
            UnreadableValueError, match="lasts more than 60 s, which are read at most; cut it into parts"
        ):
            decode_audio(lying)


# --- wav ---------------------------------------------------------------------------------------------------------

WAVS = [
    ("WAV", "PCM_16"),
    ("WAV", "PCM_U8"),
    ("WAV", "FLOAT"),
    ("WAV", "IMA_ADPCM"),
    ("WAV", "ALAW"),
    ("WAVEX", "PCM_24"),
]
wavs = pytest.mark.parametrize(("form", "subtype"), WAVS)


@wavs
@pytest.mark.parametrize("riff", [0, 36, 0xFFFF_FFFF, None])
def test_a_wav_whose_size_was_never_written_is_read_to_its_end(form, subtype, riff):
    data = encoded(noise(4096), 8_000, form, subtype)
    for unclosed in (sized(data, 0, riff), id3(30) + sized(data, 0, riff)):
        np.testing.assert_array_equal(decode_audio(unclosed)[0], read(data))
        assert audio_size(unclosed, 10**7) == (len(read(data)), 1)


def test_a_big_endian_wav_and_one_of_mp3_frames_are_read_to_their_end_too():
    big = encoded(noise(4096), 8_000, endian="BIG")
    np.testing.assert_array_equal(decode_audio(sized(big, 0, 0))[0], read(big))
    frames = without_length(mp3())
    np.testing.assert_array_equal(decode_audio(sized(mpeg_wav(frames, 16_000), 0, 0))[0], decode_audio(frames)[0])


def test_a_wav_that_holds_nothing_has_no_samples():
    data = encoded(noise(100), 8_000)
    header = sized(data[: data.index(b"data") + 8], 0)
    for empty in (header, header + chunk(b"LIST", b"INFOICMT"), header + chunk(b"id3 ", bytes(9))):
        with pytest.raises(UnreadableValueError, match="holds no samples; leave the cell empty"):
            decode_audio(empty)


@wavs
@pytest.mark.parametrize(
    "after",
    [
        chunk(b"LIST", b"INFOICMT"),
        chunk(b"bext", bytes(33)) + chunk(b"id3 ", b"abc"),
        b"LIST\x05\0\0\0INFOxcue \x02\0\0\0ab",  # no padding after an odd size
        chunk(b"LIST", bytes(80))[:-30],
        ID3V1,
        id3(50),
        bytes(400),
        b"\x01\x02\x03",
    ],
)
def test_what_follows_the_samples_of_a_wav_is_no_audio(form, subtype, after):
    data = encoded(noise(4096), 8_000, form, subtype)
    for given in (data + after, id3(30) + data + after):
        np.testing.assert_array_equal(decode_audio(given)[0], read(data))


def test_an_odd_size_is_padded_or_not():
    data = encoded(noise(4097), 8_000, "WAV", "PCM_U8")
    odd = data[: data.index(b"data") + 8 + 4097]
    for after in (b"", b"\0", chunk(b"LIST", b"INFO"), b"\0" + chunk(b"LIST", b"INFO")):
        assert len(decode_audio(odd + after)[0]) in (4097, 4098)  # libsndfile takes the padding for a sample


@wavs
def test_a_wav_that_goes_on_after_its_sizes_is_refused(form, subtype):
    data = encoded(noise(4096), 8_000, form, subtype)
    place, size = data.index(b"data") + 8, len(data) - data.index(b"data") - 8
    loud = np.random.default_rng(0).bytes(500)
    for given in (
        data + data,
        sized(data, size // 2),
        sized(data, size // 2, place + size // 2),
        data + loud,
        data * 3,
    ):
        with pytest.raises(UnreadableValueError, match=r"continues for \d+ bytes after the end that its header says"):
            decode_audio(given)


@wavs
@pytest.mark.parametrize("missing", [1, 2, 50, 1000])
def test_a_wav_shorter_than_its_sizes_is_truncated(form, subtype, missing):
    data = encoded(noise(4096), 8_000, form, subtype)
    for given in (data[:-missing], id3(30) + data[:-missing], sized(data, len(data) + missing)):
        with pytest.raises(UnreadableValueError, match="ends before its header says; it is truncated, copy it again"):
            decode_audio(given)


def test_a_wav_of_many_chunks_is_not_searched_for_ever():
    data = b"RIFF\0\0\0\0WAVE" + chunk(b"JUNK", b"") * 1_001
    with pytest.raises(UnreadableValueError, match="has more than 1000 chunks before its samples"):
        decode_audio(data)


# --- flac --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("claim", [0, 1, 100, 4096, 11_999])
@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24"])
@pytest.mark.parametrize("form", ["plain", "tag before", "ID3v1", "APE", "both"])
def test_a_flac_that_claims_fewer_samples_or_none_is_read_whole(claim, subtype, form):
    data = encoded(noise(12_000), 8_000, "FLAC", subtype)
    lying = flac_claiming(data, claim)
    files = {
        "plain": lying,
        "tag before": id3(60) + lying,
        "ID3v1": lying + ID3V1,
        "APE": lying + ape(b"abc" * 200),
        "both": lying + ape(b"abc") + ID3V1,
    }
    np.testing.assert_array_equal(decode_audio(files[form])[0], read(data))
    assert audio_size(files[form], 10**7) == (12_000, 1)


@pytest.mark.parametrize("claim", [12_001, 12_500, 20_000, 400_000])
def test_a_flac_that_claims_more_samples_than_it_has_is_truncated(claim):
    data = flac_claiming(encoded(noise(12_000), 8_000, "FLAC"), claim)
    with pytest.raises(UnreadableValueError, match=f"12000 of its {claim} samples can be decoded; it is truncated"):
        decode_audio(data)


@pytest.mark.parametrize("after", [ID3V1, bytes(3000), b"junk", ape(b"a"), np.random.default_rng(0).bytes(5000)])
def test_what_follows_a_flac_is_no_audio(after):
    data = encoded(noise(12_000), 8_000, "FLAC")
    np.testing.assert_array_equal(decode_audio(data + after)[0], read(data))
    assert audio_size(data + after, 10**7) == (12_000, 1)


@pytest.mark.parametrize("claim", [100, 5_000, 12_000])
def test_a_flac_that_another_follows_is_refused(claim):
    data = encoded(noise(12_000), 8_000, "FLAC")
    for other in (data, encoded(noise(900), 16_000, "FLAC"), encoded(noise(900), 8_000, "FLAC", "PCM_24")):
        with pytest.raises(
            UnreadableValueError, match="continues after the end that its header says, and not as one flac"
        ):
            decode_audio(flac_claiming(data, claim) + other)


@pytest.mark.parametrize("claim", [0, 100])
def test_a_flac_is_not_decoded_beyond_the_limits(claim):
    data = flac_claiming(encoded(np.zeros((8_000 * 61, 8), np.int16), 8_000, "FLAC"), claim)
    with pytest.raises(UnreadableValueError, match="lasts more than 60 s, which are read at most"):
        decode_audio(data)
    frames, channels = audio_size(data, 1_000_000)
    assert 1_000_000 < frames * channels < 2_000_000


# --- ogg ---------------------------------------------------------------------------------------------------------

oggs = pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])


def ogg(subtype: str, seconds: float = 3.0, rate: int = 16_000, channels: int = 1) -> bytes:
    samples = np.repeat(noise(round(rate * seconds))[:, None], channels, axis=1)
    return encoded(samples, rate, "OGG", subtype)


@oggs
@pytest.mark.parametrize(
    "form", ["two", "three", "behind a tag", "junk between", "junk after", "another number of channels"]
)
def test_every_link_of_a_chained_ogg_is_read(subtype, form):
    first, second = ogg(subtype), ogg(subtype, 1.0, channels=2 if "channels" in form else 1)
    data, links = {
        "two": (first + second, [first, second]),
        "three": (second + first + second, [second, first, second]),
        "behind a tag": (id3(77) + first + second, [first, second]),
        "junk between": (first + bytes(range(256)) * 300 + second, [first, second]),
        "junk after": (first + second + ID3V1, [first, second]),
        "another number of channels": (first + second, [first, second]),
    }[form]
    np.testing.assert_array_equal(decode_audio(data)[0], np.concatenate([read(link) for link in links]))
    assert audio_size(data, 10**7) == (sum(len(read(link)) for link in links), 2 if "channels" in form else 1)


@oggs
def test_a_link_that_is_cut_off_is_not_lost_without_a_word(subtype):
    first, second = ogg(subtype), ogg(subtype, 1.0)
    pages = ogg_pages(first)
    for data in (
        first[:-10] + second,
        first[: -len(pages[-1])] + second,
        first + second[:-10],
        first + second[: -len(ogg_pages(second)[-1])],
        first[:-10] + second + first,
    ):
        with pytest.raises(UnreadableValueError, match="ends before its header says; it is truncated, copy it again"):
            decode_audio(data)


@oggs
@pytest.mark.parametrize("granule", [-1, 0, 1, 1000, 20_000])
def test_an_ogg_whose_last_page_ends_before_the_others_is_refused(subtype, granule):
    with pytest.raises(
        UnreadableValueError, match=rf"the end that one of its pages gives \({granule}, where \d+ has been"
    ):
        decode_audio(last_page_claiming(ogg(subtype), granule))


@oggs
def test_an_ogg_that_claims_more_than_it_has_is_truncated(subtype):
    with pytest.raises(UnreadableValueError, match=r"\d+ of its \d+ samples can be decoded"):
        decode_audio(last_page_claiming(ogg(subtype), 300_000))


@oggs
def test_links_of_other_rates_or_beyond_the_limits_are_refused(subtype):
    short = ogg(subtype, 0.1)
    for data, message in (
        (ogg(subtype) + ogg(subtype, rate=48_000), "changes from 16000 to 48000 Hz within; convert it to one rate"),
        (ogg(subtype, 21.0) * 3, r"lasts 63\.0 s; at most 60 s are read"),
        (short * 102, "has over 100000 pages or 100 streams"),
        (short + (b"OggS\0\0" + struct.pack("<q", 10**6) + bytes(13)) * 100_001, "has over 100000 pages"),
    ):
        with pytest.raises(UnreadableValueError, match=message):
            decode_audio(data)


# --- all of them -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["WAV", "FLAC", "OGG", "MP3"])
def test_a_file_behind_a_tag_is_read_from_a_path_too(form, tmp_path):
    data = encoded(noise(8_000), 8_000, form)
    (tmp_path / "a").write_bytes(id3(40) + data)
    np.testing.assert_array_equal(decode_audio(tmp_path / "a")[0], decode_audio(data)[0])


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_the_size_of_a_clip_is_that_of_its_samples(channels):
    data = encoded(np.zeros((50, channels)), 8_000)
    assert audio_size(data, 10**7) == (50, channels)
    with pytest.raises(UnreadableValueError, match="is not a readable wav, flac, ogg or mp3 file"):
        audio_size(b"RIFF", 10**7)
