"""HOW p(x) is modelled: one line per family.

A family is a frozen config dataclass and the Density that it configures. Nothing is imported until
it is used, so that `conjoin families` answers at once. Third parties register theirs by the entry
point group ``conjoin.families``.
"""

import ast
import collections.abc
import importlib
import importlib.metadata
import numbers
import typing
from dataclasses import dataclass, replace
from typing import Any

from conjoin.util.near import did_you_mean

__all__ = [
    "FAMILIES",
    "Family",
    "check_settings",
    "describe_family",
    "for_layout",
    "name_of",
    "names",
    "of_tables",
    "refuse_class_alone",
    "refuse_columns_beside_class",
    "reset",
    "resolve",
    "restored",
    "suited",
]


DEFAULT_FAMILY = "circuit"  # of tables; other data that are fitted with it get their own


@dataclass(frozen=True, slots=True)
class Family:
    """One row of the map: where the config lives, and what the family is for."""

    config: str  # "module:Class"
    map: str  # one of the six families of the talk, or "classic"
    summary: str
    aliases: tuple[str, ...] = ()
    # what sets this row apart from another of the same config
    settings: tuple[tuple[str, Any], ...] = ()
    kinds: tuple[str, ...] = ("real", "integer", "category", "ordered")
    pictures: bool = False  # whether it is for pictures, alone or beside columns
    layouts: tuple[str, ...] = ("vector",)  # of the blocks that it is made for
    needs: str = ""  # a setting without which it is no model, such as a folder of weights

    def takes(self, space: Any) -> bool:
        """Whether it is made for data of such a space, with no setting but its own."""
        if self.needs:
            return False
        if not space.flat:
            return space.layout in self.layouts
        variables = all(variable.kind in self.kinds for variable in space.variables)
        return "vector" in self.layouts and variables and (not self.pictures or space.pixels > 0)


FAMILIES: dict[str, Family] = {
    "circuit": Family(
        "conjoin.families.circuit.latent_tree:Circuit",
        "circuit",
        "tree of latent variables; exact likelihood, any marginal, any conditional; the default "
        "for tables",
        ("pc", "probabilistic_circuit", "hclt"),
    ),
    "default": Family(
        "conjoin.families.stacked:Stacked",
        "classic",
        "circuit, mixtures of Gaussians and forest, mixed as validation rows choose; the most "
        "likely of what is fitted in seconds",
        ("stacked", "auto_fast"),
    ),
    "naive_bayes": Family(
        "conjoin.families.classic.naive_bayes:NaiveBayes",
        "classic",
        "columns independent given the class; the fastest, the plainest",
        ("nb",),
    ),
    "linear_discriminant": Family(
        "conjoin.families.classic.discriminant:Discriminant",
        "classic",
        "a Gaussian per class with one covariance: straight boundaries",
        ("lda",),
        (("covariance", "shared"),),
    ),
    "quadratic_discriminant": Family(
        "conjoin.families.classic.discriminant:Discriminant",
        "classic",
        "a Gaussian per class with its own covariance: curved boundaries",
        ("qda", "gaussian"),
        (("covariance", "own"),),
    ),
    "mixture": Family(
        "conjoin.families.classic.mixture:Mixture",
        "classic",
        "a few prototypes, columns independent within each; mixed types",
        ("latent_class",),
    ),
    "gaussian_mixture": Family(
        "conjoin.families.classic.gaussian_mixture:GaussianMixture",
        "classic",
        "clusters of numbers that hang together, each with a full covariance; exact, mixed types",
        ("gmm",),
    ),
    "dirichlet_process": Family(
        "conjoin.families.classic.dirichlet_process:DirichletProcess",
        "classic",
        "as many clusters as the rows call for; Bayesian, averaged over samples; mixed types",
        ("crp", "chinese_restaurant"),
    ),
    "indian_buffet": Family(
        "conjoin.families.classic.indian_buffet:IndianBuffet",
        "classic",
        "features that a row has or lacks, as many as the rows call for; Bayesian, averaged over "
        "samples; mixed types",
        ("ibp",),
    ),
    "factor_analysis": Family(
        "conjoin.families.classic.factor:Factor",
        "classic",
        "a Gaussian per class whose numbers are moved by a few hidden factors; exact with "
        "missing cells, for many columns",
        ("fa",),
        (("noise", "own"),),
    ),
    "ppca": Family(
        "conjoin.families.classic.factor:Factor",
        "classic",
        "probabilistic principal components: hidden factors, and the same noise for every column",
        ("pca", "probabilistic_pca"),
        (("noise", "shared"),),
    ),
    "topic": Family(
        "conjoin.families.classic.topic:Topic",
        "classic",
        "latent Dirichlet allocation: every cell of a row is of one of the row's topics; mixed "
        "types, or counts of words",
        ("lda_topics", "latent_dirichlet"),
    ),
    "bayes_net": Family(
        "conjoin.families.classic.bayes_net:BayesNet",
        "classic",
        "every column depends on a few others, along arrows that the data choose; exact, and its "
        "graph can be read",
        ("bayesian_network", "bn"),
    ),
    "markov_field": Family(
        "conjoin.families.classic.markov_field:MarkovField",
        "classic",
        "columns pull on their neighbours along the tree of strongest links; exact",
        ("mrf", "markov_random_field"),
        (("structure", "tree"),),
    ),
    "grid_field": Family(
        "conjoin.families.classic.markov_field:MarkovField",
        "classic",
        "a Markov random field with loops (an image's neighbours, or the strongest links); "
        "relative where the sum is out of reach",
        (),
        (("structure", "grid"),),
    ),
    "energy": Family(
        "conjoin.families.energy.joint_energy:Energy",
        "energy",
        "a classifier whose logits also weigh p(x), as a tilt of a mixture; relative, any "
        "columns, images",
        ("ebm", "jem"),
    ),
    "boltzmann": Family(
        "conjoin.families.energy.rbm:Boltzmann",
        "energy",
        "binary hidden units switch on patterns across columns; exact up to twelve of them, "
        "relative beyond",
        ("rbm", "restricted_boltzmann"),
    ),
    "vae": Family(
        "conjoin.families.latent.vae:VAE",
        "latent",
        "a few hidden numbers explain each row through a neural network; a bound of the "
        "likelihood, and features",
        ("vamp", "variational_autoencoder"),
        (("levels", 1),),
    ),
    "ladder": Family(
        "conjoin.families.latent.vae:VAE",
        "latent",
        "hidden numbers in two levels, the upper one setting the scene for the lower; a bound of "
        "the likelihood",
        ("hierarchical_vae", "ladder_vae"),
        (("levels", 2), ("draws", 64)),
    ),
    "vqvae": Family(
        "conjoin.families.latent.discrete:VQVAE",
        "latent",
        "each row is a word of a few discrete codes, decoded by a neural network; a bound "
        "without noise",
        ("discrete_latent", "vq"),
    ),
    "autoregressive": Family(
        "conjoin.families.autoregressive.masked:Masked",
        "autoregressive",
        "one column after the other by a masked network, averaged over several orders of the "
        "columns; exact, mixed types",
        ("made", "arm"),
    ),
    "forest": Family(
        "conjoin.families.autoregressive.forest:ForestChain",
        "autoregressive",
        "one column after the other by randomised trees, told those before it; exact, mixed types, "
        "grown in seconds",
        ("forest_chain", "tree_chain"),
    ),
    "sequence": Family(
        "conjoin.families.autoregressive.sequence:Sequence",
        "autoregressive",
        "strings, token by token, with an end: a causal transformer; exact, also of beginnings",
        ("strings",),
        layouts=("sequence",),
    ),
    "ngram": Family(
        "conjoin.families.classic.ngram:Ngram",
        "classic",
        "strings by counts of runs of characters: modified Kneser-Ney of many orders; exact, "
        "fitted in seconds; a baseline that is hard to beat",
        ("kneser_ney",),
        layouts=("sequence",),
    ),
    "text_mixture": Family(
        "conjoin.families.autoregressive.text_mixture:TextMixture",
        "autoregressive",
        "strings by the network of 'sequence' and the counts of 'ngram', mixed token by token by "
        "how sure either is; exact, also of beginnings",
        layouts=("sequence",),
    ),
    "transformer": Family(
        "conjoin.families.autoregressive.causal:Causal",
        "autoregressive",
        "one column or pixel after the other by a causal transformer; exact; for images and for "
        "columns that come in order",
        ("causal", "gpt"),
    ),
    "pixel_cnn": Family(
        "conjoin.families.autoregressive.pixels:Pixels",
        "autoregressive",
        "one pixel after the other by a gated PixelCNN; exact; what family='autoregressive' is "
        "for pictures of 16 pixels a side and more",
        ("pixelcnn",),
        pictures=True,
    ),
    "flow": Family(
        "conjoin.families.flow.coupling:Flow",
        "flow",
        "numbers are bent by splines until they are a normal distribution; exact, finely "
        "recorded numbers as a bound",
        ("nsf", "realnvp"),
    ),
    "flow_matching": Family(
        "conjoin.families.flow.continuous:FlowMatching",
        "flow",
        "noise is carried to data along a learned velocity field; log p, by solving an "
        "equation, is approximate",
        ("cnf",),
    ),
    "diffusion": Family(
        "conjoin.families.diffusion.gaussian:Diffusion",
        "diffusion",
        "noise is taken away step by step; numbers drown in it, codes vanish; log p is a bound, "
        "exact where all columns are codes",
        ("ddpm", "vdm", "edm"),
        layouts=("vector", "image"),
    ),
    "chain": Family(
        "conjoin.families.chain:Chain",
        "classic",
        "records of several blocks: columns, pictures and strings, each told those before it",
        ("record",),
        layouts=("record",),
    ),
    "picture_diffusion": Family(
        "conjoin.families.diffusion.picture:PictureDiffusion",
        "diffusion",
        "pictures: a lean U-Net that takes noise away and tells classes apart; what "
        "family='diffusion' is for pictures; a bound",
        ("joint_diffusion", "image_diffusion"),
        kinds=("ordered",),
        pictures=True,
    ),
    "picture_tokens": Family(
        "conjoin.families.autoregressive.picture_tokens:PictureTokens",
        "autoregressive",
        "pictures: an autoencoder makes few codes of each, and a transformer writes these one by "
        "one; what captioned pictures are modelled by; a bound",
        ("vq_transformer", "dalle"),
        kinds=("ordered",),
        pictures=True,
    ),
    "latent_diffusion": Family(
        "conjoin.families.diffusion.latent:LatentDiffusion",
        "diffusion",
        "pictures: an autoencoder makes few numbers of each, and the diffusion of pictures models "
        "these; for pictures of 64 pixels a side and more; a bound",
        ("ldm",),
        kinds=("ordered",),
        pictures=True,
    ),
    "cascade": Family(
        "conjoin.families.diffusion.cascade:Cascade",
        "diffusion",
        "pictures in two stages: one of half the size by the diffusion of pictures, then the "
        "picture given that one; a bound",
        ("super_resolution",),
        kinds=("ordered",),
        pictures=True,
    ),
    "illustrated": Family(
        "conjoin.families.illustrated:Illustrated",
        "diffusion",
        "tables of which one column holds pictures: a circuit of the columns, then the diffusion "
        "of pictures, told of them; a bound",
        ("columns_and_picture",),
        pictures=True,
    ),
    "multimodal": Family(
        "conjoin.families.multimodal:Multimodal",
        "classic",
        "tables of which some columns hold strings or pictures: a circuit of the columns, then "
        "each of the others, told of those before it",
        ("columns_and_blocks",),
        layouts=("record",),
    ),
    "point_cloud": Family(
        "conjoin.families.classic.point_cloud:PointCloud",
        "classic",
        "clouds of points, each for itself; exact, whatever their order or place; a baseline",
        layouts=("points",),
    ),
    "molecules": Family(
        "conjoin.families.molecules:Molecules",
        "diffusion",
        "molecules in space: a string, then the places of the atoms given the graph that it "
        "writes; conformers, parts, and what is strange about a geometry",
        layouts=(),  # blocks of atoms with their bonds, which no layout tells from other points
    ),
    "points_flow": Family(
        "conjoin.families.diffusion.points:PointsFlow",
        "diffusion",
        "clouds of points in a few steps, whichever way they are turned, given a graph, columns, "
        "or nothing: molecules in space; log p is off by the solver's error",
        ("cloud_flow", "equivariant_flow"),
        layouts=("points",),
    ),
    "absorbing_diffusion": Family(
        "conjoin.families.diffusion.absorbing:AbsorbingDiffusion",
        "diffusion",
        "columns or pixels vanish and are brought back in any order; exact; for tables of any "
        "kind and for images",
        ("d3pm", "masked_diffusion", "order_agnostic"),
    ),
    "transformers_text": Family(
        "conjoin.families.pretrained.text:TransformersText",
        "autoregressive",
        "a pretrained causal language model of a local folder, token by token; exact, also of "
        "beginnings; it needs folder=...",
        ("language_model", "causal_lm"),
        layouts=("sequence",),
        needs="folder",
    ),
    "language": Family(
        "conjoin.families.pretrained.language:Language",
        "autoregressive",
        "a pretrained language model of the Llama layout, from a folder or a GGUF file, also in "
        "few bits; exact; it needs folder=...",
        ("llama", "gguf"),
        layouts=("sequence",),
        needs="folder",
    ),
    "diffusers_picture": Family(
        "conjoin.families.pretrained.picture:DiffusersPicture",
        "diffusion",
        "a pretrained diffusion model of pictures of a local folder; a bound, from its own noise "
        "levels; it needs folder=...",
        ("pretrained_diffusion",),
        kinds=("ordered",),
        pictures=True,
        layouts=("image",),
        needs="folder",
    ),
    "transformers_caption": Family(
        "conjoin.families.pretrained.caption:TransformersCaption",
        "autoregressive",
        "a pretrained network that says what a picture shows, of a local folder; exact p(caption "
        "given picture); it needs folder=...",
        ("image_to_text",),
        layouts=("sequence",),
        needs="folder",
    ),
    "diffusers_text_to_image": Family(
        "conjoin.families.pretrained.text_to_image:DiffusersTextToImage",
        "diffusion",
        "a pretrained latent diffusion model that draws what a text says, of a local folder; a "
        "bound of p(picture given text); it needs folder=...",
        ("stable_diffusion", "text_to_image"),
        kinds=("ordered",),
        layouts=("image",),
        needs="folder",
    ),
    "conditional_pair": Family(
        "conjoin.families.pretrained.pair:ConditionalPair",
        "autoregressive",
        "a picture and a text, one told to a pretrained network that models the other, as "
        "from_pretrained reads it; it needs settings={'folder': ...}",
        layouts=("record",),
        needs="settings",
    ),
    "integer_flow": Family(
        "conjoin.families.flow.integer:IntegerFlow",
        "flow",
        "whole numbers are moved along their lattice, one half by what the other says; exact",
        ("idf",),
    ),
}


def of_tables() -> list[str]:
    """Names of the families of rows that are not for pictures."""
    return [
        name
        for name, family in FAMILIES.items()
        if "vector" in family.layouts and not family.pictures and not family.needs
    ]


def for_layout(layout: str) -> Any:
    """The config of the first family that is made for blocks of a layout.

    Raises
    ------
    ValueError
        If there is none.
    """
    found = [
        name for name, family in FAMILIES.items() if layout in family.layouts and not family.needs
    ]
    if not found:
        raise ValueError(f"No family is made for blocks of the layout {layout!r}.")
    return _by_name(found[0])


def suited(config: Any, space: Any) -> Any:
    """The config that models such a space in place of ``config``: a family of rows hands blocks
    whose rows differ in length, and records of them, to the family that is made for them. Where
    strings or several pictures stand beside columns it models the columns, and 'multimodal' the
    rest; ValueError for a family that can't."""
    if not config.density.flat:
        return _within_rows(config, space)
    if not space.flat:
        if name_of(config) != DEFAULT_FAMILY:
            raise ValueError(
                f"family={name_of(config)!r} models rows of a table, and not data of the layout "
                f"{space.layout!r}: leave family out, or take "
                f"{name_of(for_layout(space.layout))!r}."
            )
        return for_layout(space.layout).suited(space)
    if space.blocks and not config.density.takes_blocks:
        config = config.beside_blocks()
        settings = config.get_params()
        config = replace(_by_name("multimodal"), columns=name_of(config), settings=settings)
    return config.suited(space)


def refuse_class_alone(config: Any, what: str) -> None:
    """ValueError for a family of strings that can be told one class alone; ``what`` it would be
    told, as a part of a sentence."""
    if config.takes_class_alone:
        raise ValueError(
            f"family={name_of(config)!r}: counts of strings can be told one class and nothing "
            f"else, and {what}: take 'text_mixture', counts beside a network, or 'sequence'."
        )


def refuse_columns_beside_class(config: Any, space: Any, target: bool) -> None:
    """ValueError for such a family where the columns of x hold more beside a string than one class,
    or anything beside a ``target``."""
    strings = [block.name for block in space.behind if block.ragged] if space.flat else []
    if not strings:
        return
    columns = space.variables[: space.columns]
    others = [block.name for block in space.behind if block.name != strings[-1]]
    told = [variable.name for variable in columns] + others
    alone = not others and all(variable.discrete for variable in columns)
    if not alone or len(told) + target > 1:
        beside = f"{', '.join(map(repr, told))}{' and a target' if target else ''}"
        verb = "stand" if len(told) + target > 1 else "stands"
        refuse_class_alone(config, f"beside {strings[-1]!r} {verb} {beside}")


def _within_rows(config: Any, space: Any) -> Any:
    """A family of strings for rows of a table: "multimodal", whose strings it models. ValueError
    where there are none."""
    name = name_of(config)
    known = FAMILIES.get(name)
    if not space.flat or known is None or known.needs or known.layouts != ("sequence",):
        return config
    if not space.behind or not all(block.ragged for block in space.behind):
        raise ValueError(
            f"family={name!r} models strings, and the rows hold other things than strings: leave "
            "family out, or take 'multimodal', which has a family for each."
        )
    strings = {"family": name, **config.get_params()}
    return replace(_by_name("multimodal"), strings=strings).suited(space)


def names() -> dict[str, str]:
    """Every name that ``family=`` takes, aliases and entry points included, and the name it stands
    for."""
    table = _own_names()
    return table | {point.name: point.name for point in _entry_points() if point.name not in table}


def _own_names() -> dict[str, str]:
    table = {name: name for name in FAMILIES}
    return table | {alias: name for name, family in FAMILIES.items() for alias in family.aliases}


def _entry_points() -> Any:
    return importlib.metadata.entry_points(group="conjoin.families")


def _load(config: str) -> Any:
    module, _, attribute = config.partition(":")
    return getattr(importlib.import_module(module), attribute)


def resolve(family: Any) -> Any:
    """The config of ``family``: a name, an alias, a config, or a Density class.

    A name may have settings behind it. Raises ValueError with the choices for an unknown name,
    TypeError for anything else.

    >>> resolve("lda")
    Discriminant(covariance='shared', shrinkage=1.0)
    >>> resolve("lda:shrinkage=0.5").shrinkage
    0.5
    """
    if isinstance(family, str):
        return _by_name(family)
    from conjoin.core import Config, Density

    if isinstance(family, Config):
        return family
    if isinstance(family, type) and issubclass(family, Density):
        return family.config_class()
    choices = (
        f"a name ({', '.join(FAMILIES)}), a config such as Circuit(width=32), or a Density class"
    )
    raise TypeError(f"family must be {choices}; got {family!r}.")


def _by_name(name: str) -> Any:
    """The config that a name stands for, or a name with settings: ``circuit:width=64,draws=4``,
    ``multimodal:strings.reading=0.3``."""
    name, colon, settings = name.partition(":")
    if colon:
        return _with_settings(_by_name(name), name, settings)
    plain = name.lower().replace("-", "_")
    key = _own_names().get(plain)
    if key is not None:  # without a look at what is installed, which takes tens of milliseconds
        return _load(FAMILIES[key].config)(**dict(FAMILIES[key].settings))
    return _installed(name, plain)


def reset(config: Any, family: str) -> Any:
    """The config with the settings behind the name of a family, where there are any.

    >>> reset(resolve("lda"), "lda:shrinkage=0.5")
    Discriminant(covariance='shared', shrinkage=0.5)
    """
    name, colon, settings = family.partition(":")
    return _with_settings(config, name, settings) if colon else config


def _with_settings(config: Any, name: str, text: str) -> Any:
    known = config.get_params()
    wanted: dict[str, Any] = {}
    for part in text.split(","):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        whole, dot, inner = key.partition(".")
        nested = bool(dot and inner) and _is_mapping(config, whole)
        if not equals or (key not in known and not nested):
            raise ValueError(
                f"{name}:{text}: {key!r} is no setting of {name!r} with a value; write "
                f"{name}:key=value with one of {', '.join(known)}.{did_you_mean(key, known)}"
            )
        if nested:
            wanted[whole] = {**(wanted.get(whole, known[whole]) or {}), inner: _literal(value)}
            continue
        wanted[key] = _literal(value)
        _check_kind(config, name, key, wanted[key])
        inside = isinstance(wanted[key], collections.abc.Mapping | None)
        if _is_mapping(config, key) and not inside:
            raise ValueError(f"{name}:{part}: {key} takes settings of its own: {key}.NAME=value.")
    return config.set_params(**wanted)


def check_settings(config: Any, name: str, settings: Any) -> None:
    """ValueError where one of these ``settings`` is none of the config, or of another kind."""
    known = config.get_params()
    for key, value in dict(settings or {}).items():
        if key not in known:
            raise ValueError(
                f"{name} has no setting {key!r}; choose from {', '.join(known)}."
                f"{did_you_mean(str(key), known)}"
            )
        _check_kind(config, name, key, value)


def _is_mapping(config: Any, key: str) -> bool:
    """Whether a setting holds settings of its own."""
    hint = typing.get_type_hints(type(config)).get(key)
    kinds = (hint, *typing.get_args(hint))
    return any(typing.get_origin(kind) is collections.abc.Mapping for kind in kinds)


def _literal(text: str) -> Any:
    """A number, True, False or None; any other word as it is."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _check_kind(config: Any, name: str, key: str, value: Any) -> None:
    """ValueError where the setting takes a number and a word is given, or the other way round."""
    hint = typing.get_type_hints(type(config)).get(key)
    kinds = typing.get_args(hint) or (hint,)
    plain = {bool: "True or False", int: "a whole number", float: "a number", str: "a word"}
    if not set(kinds) <= {*plain, type(None)}:
        return
    told = type(value)
    if isinstance(value, numbers.Real) and told is not bool:  # numpy's numbers among them
        told = int if isinstance(value, numbers.Integral) else float
    if told not in kinds and not (told is int and float in kinds):
        wanted = " or ".join(plain.get(kind, "None") for kind in kinds)
        raise ValueError(f"{name}:{key}={value}: {key} takes {wanted}.")


def _installed(name: str, plain: str) -> Any:
    """The config of a family that another package registered."""
    known = names()
    key = known.get(plain)
    if key is None:
        raise ValueError(
            f"There is no family {name!r}.{did_you_mean(name, known)} Choose from "
            f"{', '.join(sorted(known))}."
        )
    loaded = next(point for point in _entry_points() if point.name == key).load()
    return resolve(
        loaded()
        if isinstance(loaded, type) and loaded.__name__ != "Density" and "density" in vars(loaded)
        else loaded
    )


def name_of(config: Any) -> str:
    """The registered name of a config, or the import path of its class for a family of the user's
    own."""
    path = f"{type(config).__module__}:{type(config).__qualname__}"
    matches = [name for name, family in FAMILIES.items() if family.config == path]
    exact = [
        name
        for name in matches
        if all(getattr(config, key) == value for key, value in FAMILIES[name].settings)
    ]
    return (exact or matches or [path])[0]


def describe_family(density: Any) -> dict[str, Any]:
    """All but the weights of a family's density, as JSON."""
    config = density.config
    silent = config.unwritten
    settings = config.get_params().items()
    return {
        "kind": "family",
        "family": name_of(config),
        "settings": {k: v for k, v in settings if k not in silent or v != silent[k]},
        "structure": density.structure,
    }


def restored(described: dict[str, Any], kind: Any, space: Any, context: Any = None) -> Any:
    """A density of the config class ``kind`` from what ``describe_family`` gave, before its
    weights."""
    config = kind(**kind.implied | described["settings"])
    return config.density(space, config, described["structure"], context_space=context).eval()
