from export.exporter import export_bundle as export_bundle
from export.bundle import (
    Bundle as Bundle,
    BundleError as BundleError,
)
from export.predictor import Predictor as Predictor
from export.predictions import write_predictions as write_predictions
from export.gallery import (
    Gallery as Gallery,
    GalleryError as GalleryError,
)
from export.verify import verify_bundle as verify_bundle
from export.parity import ParityError as ParityError
from export.session import DeviceError as DeviceError
from multimodal.decoding import Prediction as Prediction
from multimodal.records.records import RecordError as RecordError
