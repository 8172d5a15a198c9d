"""The one error for pretrained weights that are neither on this machine nor can be fetched."""


def absent_weights(
    name: str, *, looked_for: str, cache: str, make_local: str = "", random: str = ""
) -> FileNotFoundError:
    """Says where they were looked for, and the three ways to get them.

    Args:
        name: the encoder's, as ``create_encoder`` takes it.
        looked_for: the file, every place searched, and why it could not be fetched.
        cache: what to copy from a machine with a network.
        make_local: a command that makes a local folder.
        random: what random weights need.
    """
    made = f", which `{make_local}` makes" if make_local else ""
    return FileNotFoundError(
        f"the pretrained weights of {name} are not on this machine; looked for {looked_for}. There are three ways to "
        f"get them: run `multimodal encoders --download {name}` on a machine with a network, and copy {cache} here; "
        f"give weights=PATH, a local file or folder{made}, or the folder of an earlier run; or give weights=None for "
        f"random ones{random} (in a config, `weights: PATH` or `weights: null`)"
    )
