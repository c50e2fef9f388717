"""The contract: events, the space they live in, and densities over them.

A joint model p(x, y) is itself a density, over the pair (y, x). Predicting y is filling in a
missing y, imputation is filling in missing parts of x, learning from few labels is a y that is
missing for some rows. So one contract serves every family, every kind of data, and the joint models
made of them.

    raw data -> Codec.encode -> Event -> Density.log_prob (nats)
    Density.sample -> Codec.decode -> raw data

Shape letters: B rows, D variables, K classes or candidates. Every logarithm is natural.
"""

from conjoin.core.block import Block, PairSpace, RecordSpace, Space, Variable, space_of_rows
from conjoin.core.capabilities import Capabilities, CapabilityError, Likelihood, Status
from conjoin.core.codec import Codec, Encoded, Field, OpenSum, Rows, as_float
from conjoin.core.density import Config, Density, Draws, Recipe
from conjoin.core.event import Edit, Event, Pair, Record, Region
from conjoin.core.flat import Flat
from conjoin.core.random import categorical, seeded, stream
from conjoin.core.resume import Resumable

__all__ = [
    "Block",
    "Capabilities",
    "CapabilityError",
    "Codec",
    "Config",
    "Density",
    "Draws",
    "Edit",
    "Encoded",
    "Event",
    "Field",
    "Flat",
    "Likelihood",
    "OpenSum",
    "Pair",
    "PairSpace",
    "Recipe",
    "Record",
    "RecordSpace",
    "Region",
    "Resumable",
    "Rows",
    "Space",
    "Status",
    "Variable",
    "as_float",
    "categorical",
    "seeded",
    "space_of_rows",
    "stream",
]
