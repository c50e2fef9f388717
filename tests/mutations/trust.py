"""Planted bugs in latents and cascades, molecules in space, marks, watermarks, answers, audits and
weights of few bits."""

from mutations_base import Mutation, at

AUDIT = "tests/test_audit.py"
MARKING = "tests/test_marking.py"
WATERMARK = "tests/test_watermark.py"
CODEC = "tests/test_molecule_codec.py"
STAGES = "tests/test_picture_stages.py"


def only(file: str, words: str) -> tuple[str, ...]:
    """The tests of a file whose names match."""
    return file, "-k", words


AUDITS: list[Mutation] = [
    *at(
        "questions/audit/given.py",
        only(AUDIT, "no_holdout"),
        ("the rows of the fit are strangers", "if overlap.share > MAX_SHARE:", "if False:"),
        (
            "chance is taken for rows of the fit",
            "return self.p_value <= MAX_P_VALUE",
            "return self.equal > 0",
            only(AUDIT, "by_chance"),
        ),
    ),
    *at(
        "model/contents.py",
        only(AUDIT, "another_table or of_what_is_read"),
        ("another order is another table", "np.sort(hashes).tobytes()", "hashes.tobytes()"),
        (
            "a missing cell is a zero",
            "state = known.int() - encoded.unseen.int()",
            "state = 0 * known.int()",
        ),
    ),
    *at(
        "questions/audit/planted.py",
        only(AUDIT, "lack_cells"),
        (
            "canaries of fewer cells are remembered",
            "gaps = _gaps(codec, frame) if codec.columnwise else []",
            "gaps: list[Any] = []",
        ),
    ),
    *at(
        "questions/audit/membership.py",
        only(AUDIT, "by_hand or counting_all"),
        ("one stranger too many", "highest = found + spare", "highest = found + spare + 1"),
        (
            "means over all shadows",
            "mean = np.where(chosen, shadows, 0.0).sum(0) / chosen.sum(0)",
            "mean = np.where(chosen, shadows, 0.0).mean(0)",
        ),
    ),
    *at(
        "questions/audit/groups.py",
        only(AUDIT, "served_alike or is_kept_only"),
        (
            "the worst of many groups is tested as one",
            "_chance(errors[worst], others) * len(errors) <= 1 - CONFIDENCE",
            "_chance(errors[worst], others) <= 1 - CONFIDENCE",
        ),
    ),
]
MARKS: list[Mutation] = [
    *at(
        "marking/sidecar.py",
        only(MARKING, "later_version"),
        (
            "another version hides a change",
            "version > VERSION and not _was_ours(body, place.name)",
            "version > VERSION",
        ),
    ),
    *at(
        "marking/signer.py",
        only(MARKING, "manifest_store"),
        (
            "a certificate that is not signed counts first",
            "headers = (_read(protected), unprotected)",
            "headers = (unprotected, _read(protected))",
        ),
    ),
    *at(
        "marking/verify.py",
        only(MARKING, "bound_to_their_names or overrule or folder_is_told"),
        (
            "files may change places",
            "if own in found.digests and own not in same:",
            "if own in found.digests and not same:",
        ),
        (
            "a mark beside a picture overrules its own",
            "if inside is not None and inside.state != UNMARKED:",
            "if inside is not None and inside.state == VALID:",
        ),
        (
            "files that are gone are not missed",
            "if not (folder / name).is_file()]",
            "if (folder / name).is_dir()]",
        ),
    ),
    *at(
        "marking/watermark.py",
        only(WATERMARK, "left_to_chance or uniform_for_texts"),
        (
            "a window is marked again",
            "new = len(window) == WINDOW_TOKENS and window not in self._seen",
            "new = len(window) == WINDOW_TOKENS",
        ),
        (
            "the best of all sub-keys counts as one",
            "np.expm1(SUB_KEYS * np.log1p(-least))",
            "np.expm1(np.log1p(-least))",
        ),
    ),
]
ANSWERS = at(
    "questions/answers/readings.py",
    only("tests/test_answers.py", "shares_entropy"),
    (
        "the best answer has a share of its own",
        "np.bincount(cluster[1:], minlength=count)",
        "np.bincount(cluster, minlength=count)",
    ),
    (
        "a string that is drawn twice counts twice",
        "different = {tuple(answer.codes): answer.total for answer in answers}",
        "different = dict(enumerate(answer.total for answer in answers))",
    ),
)
PICTURES: list[Mutation] = [
    *at(
        "families/diffusion/latent.py",
        only(STAGES, "bound_is_that or taught_by"),
        (
            "the decoder sees no noise",
            "z = self.core.unscaled(x + self.core.least * noise)",
            "z = self.core.unscaled(x)",
        ),
        (
            "the latents are narrower for nothing",
            "least**2 - 1 - 2 * math.log(least)",
            "least**2 - 1 - math.log(least)",
        ),
    ),
    *at(
        "families/diffusion/cascade.py",
        only(STAGES, "mode_of_a_cascade or function_of_the_large"),
        ("no row has no mode", "torch.cat([event.value[:0], *rows])", "torch.cat(rows)"),
        (
            "a small pixel is known by one of four",
            "(known == 1).flatten(1)",
            "(known > 0).flatten(1)",
        ),
    ),
]
MOLECULES: list[Mutation] = [
    *at(
        "chemistry/strings.py",
        only(CODEC, "as_rdkit_reads_it"),
        (
            "aromatic atoms have one hydrogen more",
            "    taken += AROMATIC in own or (draft.aromatic[atom] and bool(own))\n",
            "",
        ),
    ),
    *at(
        "chemistry/canonical.py",
        only(CODEC, "look_alike"),
        (
            "ties are broken by the order given",
            "for member in members if self.leaves < MAX_LEAVES else members[:1]:",
            "for member in members[:1]:",
        ),
    ),
    *at(
        "codecs/molecule/",
        only(CODEC, "rounding_is_counted or whole_molecules"),
        (
            "the mean of the places is counted",
            "- math.log(atoms) / 2)",
            "+ math.log(atoms) / 2)",
        ),
        (
            "double bonds of rings are forgotten",
            "found = {int(taken[atom]), int(taken[atom]) + bool(aromatic[atom])}",
            "found = {int(taken[atom])}",
        ),
    ),
]
FEW_BITS = at(
    "nets/packed.py",
    only("tests/test_language.py", "products_of_few_bits"),
    (
        "the digits of int8 are cut, not rounded",
        "high = ((whole + DIGIT // 2) / DIGIT).floor()",
        "high = (whole / DIGIT).floor()",
    ),
    (
        "the kernel of int4 has its zero elsewhere",
        "low + (MAX_INT4 + 1) // 2 * scale",
        "low + MAX_INT4 // 2 * scale",
    ),
)

MUTATIONS = [*AUDITS, *MARKS, *ANSWERS, *PICTURES, *MOLECULES, *FEW_BITS]
