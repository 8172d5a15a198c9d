from encoders.base import Encoder as Encoder
from encoders.info import EncoderInfo as EncoderInfo
from encoders.registry import (
    create_encoder as create_encoder,
    find_encoder as find_encoder,
    list_encoders as list_encoders,
    register_encoder as register_encoder,
)
