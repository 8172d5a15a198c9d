import re

import numpy as np
import pytest

from multimodal.demo.data import PRODUCTS
from multimodal.demo.texts import FLAVORS, write_line


def lines(flavor, count=300):
    return [write_line(flavor, np.random.default_rng(seed)) for seed in range(count)]


def test_the_same_generator_writes_the_same_line():
    assert lines("oat", 20) == lines("oat", 20)


@pytest.mark.parametrize("flavor", FLAVORS)
def test_no_line_names_a_product_or_its_package(flavor):
    named = {word for product in PRODUCTS for word in (*product.name.split(), product.package, product.category)}
    telling = named - set(FLAVORS) - {"milk"}  # "milk chocolate" is said of everything with chocolate
    words = set(re.findall(r"[a-z]+", " ".join(lines(flavor)).lower()))
    assert not words & telling


def test_no_line_belongs_to_two_flavors():
    written = [set(lines(flavor)) for flavor in FLAVORS]
    assert sum(len(one) for one in written) == len(set.union(*written))
    assert min(len(one) for one in written) > 100


def test_an_unknown_flavor_is_an_error_that_lists_the_known_ones():
    with pytest.raises(LookupError, match="no flavour 'lime'; there are strawberry, orange, chocolate, oat"):
        write_line("lime", np.random.default_rng(0))
