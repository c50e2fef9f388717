"""Marks: what says of a file that a model made it, and whether it was changed since."""

import json
import stat
import sys

import numpy as np
import pytest
from sklearn.datasets import load_iris

import conjoin
from conjoin.marking.keys import key_of_user
from conjoin.marking.marks import Marks, mark_file
from conjoin.marking.origin import GENERATED, PARTLY, Origin
from conjoin.marking.picture import _facts, embed
from conjoin.marking.sidecar import sidecar_of, write_sidecar
from conjoin.marking.signer import certificate_in
from conjoin.marking.verify import CHANGED, UNKNOWN, UNMARKED, VALID, verify, verify_folder
from conjoin.util.files import new_file, new_folder, write_bytes, write_text
from conjoin.util.settings import config_folder

ORIGIN = Origin("sample", "a-model", "ab" * 32, 7)


@pytest.fixture(autouse=True)
def settings(tmp_path, monkeypatch):
    """A user's folder of settings with nothing in it."""
    folder = tmp_path / "settings"
    monkeypatch.setenv("CONJOIN_CONFIG", str(folder))
    return folder


@pytest.fixture
def unsigned(monkeypatch):
    """As if the extra were not installed."""
    monkeypatch.setitem(sys.modules, "c2pa", None)


def signs():
    pytest.importorskip("c2pa", reason="signatures need the extra mark")


def flips(data):
    """Every byte changed by one bit, one after the other."""
    for place in range(len(data)):
        changed = bytearray(data)
        changed[place] ^= 1 << (place % 8)
        yield place, bytes(changed)


def picture(path, side=6):
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 255, (side, side), dtype=np.uint8)
    Image.fromarray(pixels).save(path, "png")
    return pixels


# ------------------------------------------------------------------------------------ by hand


def test_any_changed_byte_of_a_file_or_of_its_mark_is_found(tmp_path):
    signs()
    file = tmp_path / "rows.csv"
    with Marks(ORIGIN):
        write_text(file, "a,b\n1,2\n")
    found = verify(file)
    assert (found.state, found.signed) == (VALID, True)
    assert found.facts["model"] == "a-model"
    assert found.facts["seed"] == 7
    assert "signer unknown" in found.words
    assert "the key of this user" in found.words
    for path in (file, sidecar_of(file)):
        data = path.read_bytes()
        for place, changed in flips(data):
            path.write_bytes(changed)
            assert verify(file).state == CHANGED, (path.name, place)
        path.write_bytes(data)
    assert verify(file).state == VALID


def test_any_changed_byte_of_a_picture_is_found(tmp_path):
    """Also those of the manifest that no signature covers."""
    signs()
    from PIL import Image

    file = tmp_path / "sheet.png"
    with Marks(ORIGIN) as marks, new_file(file) as draft:
        pixels = picture(draft)
    assert (marks.embedded, marks.sidecars) == (1, [])
    assert not sidecar_of(file).exists()
    assert (np.asarray(Image.open(file)) == pixels).all()
    found = verify(file)
    assert (found.state, found.signed, found.facts["verb"]) == (VALID, True, "sample")
    assert "signer unknown" in found.words
    data = file.read_bytes()
    for place, changed in flips(data):
        file.write_bytes(changed)
        assert verify(file).state in (CHANGED, UNMARKED), place
        assert verify(file).state == CHANGED or place < 8  # then it is no PNG any more
    file.write_bytes(data + b"\0")
    assert verify(file).state == CHANGED


def test_other_readers_of_c2pa_call_the_picture_valid_and_its_signer_unknown(tmp_path):
    c2pa = pytest.importorskip("c2pa", reason="signatures need the extra mark")
    file = tmp_path / "sheet.png"
    with Marks(Origin("impute", "m", "cd" * 32, partly=True)), new_file(file) as draft:
        picture(draft)
    with open(file, "rb") as stream:
        reader = c2pa.Reader("image/png", stream)
        assert reader.get_validation_state() == "Valid"
        failures = reader.get_validation_results()["activeManifest"]["failure"]
        assert [each["code"] for each in failures] == ["signingCredential.untrusted"]
        found = json.loads(reader.json())
    (manifest,) = found["manifests"].values()
    actions = next(a for a in manifest["assertions"] if a["label"].startswith("c2pa.actions"))
    (action,) = actions["data"]["actions"]
    assert (action["action"], action["digitalSourceType"]) == ("c2pa.created", PARTLY)


def test_a_folder_has_one_mark_and_each_picture_its_own(tmp_path):
    signs()
    folder = tmp_path / "drawn"
    with Marks(ORIGIN) as marks, new_folder(folder) as draft:
        (draft / "cat").mkdir()
        picture(draft / "cat" / "0.png")
        (draft / "words.txt").write_text("miaow")
    assert marks.embedded == 1
    assert marks.sidecars == [tmp_path / "drawn.mark.json"]
    assert verify(folder / "cat" / "0.png").state == VALID
    assert verify(folder / "words.txt").state == VALID
    (folder / "words.txt").write_text("bow")
    assert verify(folder / "words.txt").state == CHANGED
    (folder / "other.txt").write_text("mine")
    assert verify(folder / "other.txt").state == UNMARKED


def test_without_the_extra_a_mark_says_that_it_is_not_signed(tmp_path, unsigned):
    file = tmp_path / "rows.csv"
    with Marks(ORIGIN) as marks:
        write_text(file, "a\n1\n")
    assert (marks.key, marks.sidecars) == (None, [sidecar_of(file)])
    assert 'pip install "conjoin[mark]"' in marks.unsigned
    found = verify(file)
    assert (found.state, found.signed) == (VALID, False)
    assert "not signed" in found.words
    for path in (file, sidecar_of(file)):
        data = path.read_bytes()
        for place, changed in flips(data):
            path.write_bytes(changed)
            assert verify(file).state == CHANGED, (path.name, place)
        path.write_bytes(data)
    folder = tmp_path / "drawn"
    with Marks(ORIGIN), new_folder(folder) as draft:
        picture(draft / "0.png")
    assert verify(folder / "0.png").state == VALID


def test_a_signed_file_is_not_taken_on_trust_without_the_extra(tmp_path, monkeypatch):
    signs()
    file = tmp_path / "sheet.png"
    with Marks(ORIGIN), new_file(file) as draft:
        picture(draft)
    monkeypatch.setitem(sys.modules, "c2pa", None)
    with pytest.raises(ImportError, match=r'pip install "conjoin\[mark\]"'):
        verify(file)


def test_a_mark_of_another_key_is_valid_but_not_this_users(tmp_path, monkeypatch):
    signs()
    file = tmp_path / "rows.csv"
    with Marks(ORIGIN):
        write_text(file, "a\n1\n")
    monkeypatch.setenv("CONJOIN_CONFIG", str(tmp_path / "another"))
    found = verify(file)
    assert found.state == VALID
    assert "the key of this user" not in found.words


def test_each_bit_of_the_certificate_is_covered(tmp_path):
    """Also those that its own signature leaves out, such as how many of the last bits count."""
    signs()
    file = tmp_path / "rows.csv"
    with Marks(ORIGIN):
        write_text(file, "a\n1\n")
    mark = sidecar_of(file)
    data = mark.read_bytes()
    # before the 64 bytes of its signature: what algorithm, and how many bits count
    end = data.index(b"\\n-----END")
    for place in range(end - 100, end - 80):
        for bit in range(8):
            changed = bytearray(data)
            changed[place] ^= 1 << bit
            mark.write_bytes(bytes(changed))
            assert verify(file).state == CHANGED, (place, bit)


def test_a_claim_signed_by_one_key_does_not_pass_under_the_certificate_of_another(
    tmp_path, monkeypatch
):
    signs()
    bodies = []
    for user in ("one", "two"):
        monkeypatch.setenv("CONJOIN_CONFIG", str(tmp_path / user))
        file = tmp_path / f"{user}.csv"
        with Marks(ORIGIN):
            write_text(file, "a\n1\n")
        bodies.append(json.loads(sidecar_of(file).read_text()))
    forged = {**bodies[0], "certificate": bodies[1]["certificate"]}
    sidecar_of(tmp_path / "one.csv").write_text(json.dumps(forged, indent=1) + "\n")
    found = verify(tmp_path / "one.csv")
    assert found.state == CHANGED
    assert "signature" in found.words


def test_the_key_is_made_once_and_for_this_user_alone(settings):
    signs()
    first = key_of_user()
    again = key_of_user()
    assert (first.fresh, again.fresh) == (True, False)
    assert first.fingerprint == again.fingerprint
    (file,) = settings.iterdir()
    if sys.platform != "win32":
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(ValueError, match="belong together: remove it"):
        key_of_user()


def test_where_no_key_can_be_kept_the_mark_is_not_signed_and_says_why(tmp_path, monkeypatch):
    signs()
    blocked = tmp_path / "blocked"
    blocked.write_text("a file")
    monkeypatch.setenv("CONJOIN_CONFIG", str(blocked / "settings"))
    file = tmp_path / "rows.csv"
    with Marks(ORIGIN) as marks:
        write_text(file, "a\n")
    assert marks.key is None
    assert "can't be kept in" in marks.unsigned
    assert verify(file).state == VALID


def test_what_is_not_marked_is_noted_down_and_loses_its_old_mark(tmp_path):
    file = tmp_path / "rows.csv"
    with Marks(ORIGIN):
        write_text(file, "a\n1\n")
    with Marks(ORIGIN, wanted=False) as marks:
        write_text(file, "a\n2\n")
    assert not sidecar_of(file).exists()
    assert str(config_folder()) in marks.recorded
    found = verify(file)
    assert found.state == UNMARKED
    assert "with marking turned off" in found.words
    assert "a-model" in found.words


def test_files_outside_of_the_block_are_left_alone(tmp_path):
    with Marks(ORIGIN):
        pass
    write_bytes(tmp_path / "rows.csv", b"a")
    assert [each.name for each in tmp_path.glob("rows*")] == ["rows.csv"]


def test_a_foreign_file_by_the_name_of_a_mark_is_not_overwritten(tmp_path):
    file = tmp_path / "rows.csv"
    sidecar_of(file).write_text("notes of mine")
    with Marks(ORIGIN), pytest.raises(FileExistsError, match="is no mark of a file"):
        write_text(file, "a")
    assert not file.exists()
    assert sidecar_of(file).read_text() == "notes of mine"


def test_a_renamed_file_is_still_known_and_its_old_name_is_told(tmp_path):
    file = tmp_path / "rows.csv"
    with Marks(ORIGIN):
        write_text(file, "a\n1\n")
    moved = tmp_path / "final.csv"
    sidecar_of(file).rename(sidecar_of(moved))
    file.rename(moved)
    assert "as rows.csv" in verify(moved).words


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"conjoin_mark": 1, "claim": {"files": []}}', "[" * 100_000]
)
def test_what_is_no_mark_is_told_in_a_sentence(tmp_path, text):
    file = tmp_path / "rows.csv"
    file.write_text("a")
    sidecar_of(file).write_text(text)
    found = verify(file)
    assert found.state == CHANGED
    assert "can't be trusted" in found.words


@pytest.mark.parametrize("tail", [b"", b"\xff\xff\xff\xffIHDR", b"\0\0\0\0"])
def test_broken_pictures_are_told_in_a_sentence(tmp_path, tail):
    file = tmp_path / "sheet.png"
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + tail)
    assert verify(file).state in (CHANGED, UNMARKED)


def test_pictures_of_others_are_not_marked(tmp_path):
    from PIL import Image

    signs()
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "photo.jpg")
    picture(tmp_path / "plain.png")
    for name in ("photo.jpg", "plain.png"):
        assert verify(tmp_path / name).state == UNMARKED
    with pytest.raises(ValueError, match="no file"):
        verify(tmp_path / "none.png")


def test_a_file_that_lies_there_can_be_marked(tmp_path):
    file = tmp_path / "rows.csv"
    file.write_text("a\n1\n")
    mark_file(file, ORIGIN)
    assert verify(file).state == VALID


def test_what_is_no_model_marks_nothing(tmp_path):
    file = tmp_path / "rows.csv"
    file.write_text("a\n1\n")
    with pytest.raises(TypeError, match=r"rows.csv is marked .* fitted estimator.*; got dict"):
        conjoin.mark(file, {})
    assert [each.name for each in tmp_path.iterdir()] == ["rows.csv"]


def test_a_mark_beside_a_picture_does_not_overrule_its_own_manifest(tmp_path, monkeypatch):
    signs()
    file = tmp_path / "mine.png"
    with Marks(ORIGIN), new_file(file) as draft:
        picture(draft)
    data = bytearray(file.read_bytes())
    data[data.index(b"IDAT") + 6] ^= 1
    file.write_bytes(bytes(data))
    assert verify(file).state == CHANGED
    write_sidecar(sidecar_of(file), ORIGIN.facts(), {file.name: file}, None)
    found = verify(file)
    assert (found.state, found.signed) == (CHANGED, False)
    monkeypatch.setitem(sys.modules, "c2pa", None)
    with pytest.raises(ImportError, match="may hold, a C2PA manifest"):
        verify(file)


def test_a_mark_beside_a_photo_is_read_without_the_extra(tmp_path, unsigned):
    file = tmp_path / "photo.jpg"
    file.write_bytes(b"no manifest in here")
    with pytest.raises(ImportError, match=r'pip install "conjoin\[mark\]"'):
        verify(file)
    mark_file(file, ORIGIN)
    found = verify(file)
    assert (found.state, found.signed) == (VALID, False)
    assert "not signed" in found.words
    assert "not signed" in verify(sidecar_of(file)).words
    file.write_bytes(b"jumb c2pa: perhaps a manifest in here")
    write_sidecar(sidecar_of(file), ORIGIN.facts(), {file.name: file}, None)
    with pytest.raises(ImportError, match="may hold, a C2PA manifest"):
        verify(file)


def test_a_file_that_no_reader_of_manifests_knows_is_judged_by_its_mark(tmp_path):
    signs()
    file = tmp_path / "photo.jpg"
    file.write_bytes(b"no picture at all")
    assert verify(file).state == UNMARKED
    mark_file(file, ORIGIN)
    assert verify(file).state == VALID
    file.write_bytes(b"another one")
    assert verify(file).state == CHANGED


def drawn(tmp_path, texts):
    """A folder of files with one mark."""
    folder = tmp_path / "out"
    with Marks(ORIGIN), new_folder(folder) as draft:
        for name, text in texts.items():
            (draft / name).parent.mkdir(parents=True, exist_ok=True)
            (draft / name).write_text(text)
    return folder


def test_files_of_a_folder_are_bound_to_their_names(tmp_path, unsigned):
    folder = drawn(tmp_path, {"cat/0.txt": "miaow", "dog/0.txt": "woof"})
    cat, dog = folder / "cat" / "0.txt", folder / "dog" / "0.txt"
    assert verify(cat).state == verify(dog).state == VALID
    cat.write_text("woof")
    dog.write_text("miaow")
    for file, other in ((cat, "dog/0.txt"), (dog, "cat/0.txt")):
        found = verify(file)
        assert found.state == CHANGED
        assert f"it is what that calls {other}" in found.words
    moved = folder / "0.txt"
    moved.write_text("woof")
    found = verify(moved)
    assert found.state == VALID
    assert "as dog/0.txt" in found.words


def test_equal_files_of_a_folder_keep_their_own_names(tmp_path, unsigned):
    folder = drawn(tmp_path, {"a.txt": "same", "b.txt": "same"})
    for name in ("a.txt", "b.txt"):
        found = verify(folder / name)
        assert found.state == VALID
        assert ", as " not in found.words


def test_a_folders_mark_reaches_all_that_lies_below_it(tmp_path, unsigned):
    folder = drawn(tmp_path, {"x/y/z/deep.txt": "deep"})
    assert verify(folder / "x" / "y" / "z" / "deep.txt").state == VALID
    (folder / "x" / "y" / "z" / "deep.txt").write_text("other")
    assert verify(folder / "x" / "y" / "z" / "deep.txt").state == CHANGED


def test_pictures_of_others_with_bytes_behind_their_end_are_not_marked(tmp_path):
    file = tmp_path / "plain.png"
    picture(file)
    whole = file.read_bytes()
    for data in (whole + b"of another program", whole[:-6], whole[:-20] + b"?" + whole[-19:]):
        file.write_bytes(data)
        assert verify(file).state == UNMARKED


@pytest.mark.parametrize("facts", [["a", "list"], {"note": "of others"}, {"verb": "sample"}])
def test_facts_of_others_under_our_label_are_not_taken_for_ours(tmp_path, facts):
    signs()
    found = _facts(
        {
            "assertions": [{"label": "org.conjoin.generated", "data": facts}],
            "claim_generator_info": [{"name": "camera", "version": "2"}],
        }
    )
    assert found == {"made_with": "camera 2", "verb": None}
    file = tmp_path / "sheet.png"
    picture(file)
    forged = {"made_with": "camera 2", "source": GENERATED, "time": "2026-12-01T00:00:00Z"}
    embed(file, file.name, forged, key_of_user())
    told = verify(file)
    assert told.state == VALID
    assert "written by camera 2" in told.words


def by_a_camera(file, source="http://cv.iptc.org/newscodes/digitalsourcetype/digitalCapture", **at):
    """A picture with the manifest of another program, or with its address alone."""
    import io

    import c2pa

    from conjoin.marking.picture import _context, _signer

    action = {"action": "c2pa.created", "digitalSourceType": source}
    builder = c2pa.Builder(
        {
            "claim_generator_info": [{"name": "camera", "version": "2"}],
            "assertions": [{"label": "c2pa.actions.v2", "data": {"actions": [action]}}],
        },
        context=_context(),
    )
    if at:
        builder.set_no_embed()
        builder.set_remote_url(at["address"])
    out = io.BytesIO()
    form = "image/png" if file.suffix == ".png" else "image/jpeg"
    builder.sign(_signer(key_of_user()), form, io.BytesIO(file.read_bytes()), out)
    file.write_bytes(out.getvalue())


@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
def test_a_mark_of_another_program_is_told_as_such(tmp_path, name):
    signs()
    from PIL import Image

    file = tmp_path / name
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(file)
    whole = file.read_bytes()
    by_a_camera(file)
    found = verify(file)
    assert (found.state, found.signed) == (VALID, True)
    assert "by a mark that conjoin did not make: written by camera 2" in found.words
    assert "which says nothing of a model" in found.words
    assert "no authority vouches" not in found.words  # one may: nobody asked
    assert found.facts["source"].endswith("digitalCapture")
    file.write_bytes(whole)
    by_a_camera(file, GENERATED)
    assert "which says that a model generated it" in verify(file).words


def test_a_manifest_at_an_address_is_no_broken_one(tmp_path):
    signs()
    from PIL import Image

    file = tmp_path / "a.jpg"
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(file)
    by_a_camera(file, address="http://127.0.0.1:9/manifest")
    found = verify(file)
    assert found.state == UNMARKED
    assert "it names http://127.0.0.1:9/manifest for a manifest, which is not called" in found.words
    write_sidecar(sidecar_of(file), ORIGIN.facts(), {file.name: file}, None)
    assert verify(file).state == VALID


def test_a_picture_and_a_table_name_their_key_alike(tmp_path):
    signs()
    key = key_of_user().fingerprint
    picture(tmp_path / "sheet.png")
    (tmp_path / "rows.csv").write_text("a")
    said = []
    for name in ("sheet.png", "rows.csv"):
        mark_file(tmp_path / name, ORIGIN)
        said.append(verify(tmp_path / name).words.rpartition("; ")[2])
    assert said[0] == said[1]
    assert said[0] == f"no authority vouches for the key {key} (the key of this user)."


def test_a_certificate_with_the_number_of_this_users_is_not_this_users(tmp_path, monkeypatch):
    """Whoever makes a certificate chooses its name and number."""
    signs()
    from cryptography import x509

    own = key_of_user()
    number = x509.load_pem_x509_certificate(own.certificate).serial_number
    monkeypatch.setenv("CONJOIN_CONFIG", str(tmp_path / "another"))
    monkeypatch.setattr(x509, "random_serial_number", lambda: number)
    file = tmp_path / "sheet.png"
    picture(file)
    mark_file(file, ORIGIN)
    monkeypatch.setenv("CONJOIN_CONFIG", str(tmp_path / "settings"))
    found = verify(file)
    assert found.state == VALID
    assert own.fingerprint not in found.words
    assert "the key of this user" not in found.words


def test_certificates_are_read_out_of_a_manifest_store():
    def box(kind, body):
        return (len(body) + 8).to_bytes(4, "big") + kind + body

    def named(label, body):
        return box(b"jumb", box(b"jumd", bytes(16) + b"\3" + label.encode() + b"\0") + body)

    chain = b"\xa1\x18\x21\x82\x43abc\x43def"  # {33: [b"abc", b"def"]}
    signed = b"\xd2\x84" + bytes([0x40 + len(chain)]) + chain + b"\xa1\x18\x21\x43xyz\xf6\x41s"
    old = named("m1", named("c2pa.signature", box(b"cbor", signed.replace(b"abc", b"old"))))
    new = named("m2", named("c2pa.claim", b"") + named("c2pa.signature", box(b"cbor", signed)))
    store = named("c2pa", old + new)
    assert certificate_in(store, "m2") == b"abc"  # what is not signed, "xyz", does not count
    assert certificate_in(store, "m1") == b"old"
    assert certificate_in(store, "m3") is None
    for end in range(len(store)):
        assert certificate_in(store[:end], "m2") is None
    deep = named("c2pa", named("m", named("c2pa.signature", box(b"cbor", b"\x81" * 5_000))))
    assert certificate_in(deep, "m") is None


def test_a_mark_of_a_later_version_is_not_called_changed(tmp_path, unsigned):
    file = tmp_path / "rows.csv"
    file.write_text("a")
    mark_file(file, ORIGIN)
    mark = sidecar_of(file)
    body = json.loads(mark.read_text())
    mark.write_text(json.dumps({**body, "conjoin_mark": 2}, indent=1, ensure_ascii=False) + "\n")
    found = verify(file)  # nothing but its version was changed
    assert (found.state, "was changed" in found.words) == (CHANGED, True)
    mark.write_text(json.dumps({"conjoin_mark": 2, "files": {"rows.csv": "ab"}, "new": True}))
    with pytest.raises(NotImplementedError, match=r"version 2 of the format, .* reads version 1"):
        verify(file)
    for odd in (0, 1.5, True, "2", None):
        mark.write_text(json.dumps({**body, "conjoin_mark": odd}))
        assert verify(file).state == CHANGED


def test_each_file_of_a_folder_is_told(tmp_path, unsigned, say):
    folder = drawn(tmp_path, {"cat/0.txt": "miaow", "dog/0.txt": "woof", "gone.txt": ""})
    with pytest.raises(ValueError, match="is a folder: ask about one of its files"):
        verify(folder)
    assert say(f"verify {folder}", code=4).out.count("unchanged, not signed") == 3
    (folder / "gone.txt").unlink()
    (folder / "mine.txt").write_text("of mine")
    (folder / "other.txt").write_text("x")
    sidecar_of(folder / "other.txt").write_text(json.dumps({"conjoin_mark": 9}))
    found = verify_folder(folder)
    assert {name: each.state for name, each in found.items()} == {
        "cat/0.txt": VALID,
        "dog/0.txt": VALID,
        "mine.txt": UNMARKED,
        "other.txt": UNKNOWN,
        "gone.txt": CHANGED,
    }
    assert found["cat/0.txt"].words.startswith("cat/0.txt: unchanged, not signed")
    assert "version 9 of the format" in found["other.txt"].words
    told = say(f"verify {folder}", code=1)
    assert "gone.txt: missing: out.mark.json speaks of it." in told.out
    assert "5 files: 2 valid, not signed, 1 not marked, 1 can't be told, 1 changed." in told.err
    (tmp_path / "empty").mkdir()
    assert "folder without files" in say(f"verify {tmp_path / 'empty'}", code=2).err


def test_exit_codes_tell_each_answer_apart(tmp_path, say, monkeypatch):
    signs()
    file = tmp_path / "rows.csv"
    file.write_text("a")
    say("verify rows.csv", code=3)
    mark_file(file, ORIGIN)
    say("verify rows.csv")
    file.write_text("b")
    say("verify rows.csv", code=1)
    monkeypatch.setitem(sys.modules, "c2pa", None)
    file.write_text("a")
    mark_file(file, ORIGIN)
    say("verify rows.csv", code=4)
    sidecar_of(file).write_text(json.dumps({"conjoin_mark": 2}))
    say("verify rows.csv", code=2)


# ------------------------------------------------------------------------- every verb that makes


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A small model of a table and one of pictures, fitted by the command line."""
    from sklearn.datasets import load_digits

    from conjoin.cli import run

    folder = tmp_path_factory.mktemp("marking")
    table = load_iris(as_frame=True).frame
    table["target"] = table["target"].map({0: "a", 1: "b", 2: "c"})
    table.to_csv(folder / "iris.csv", index=False)
    gaps = table.head(6).copy()
    gaps.iloc[:3, 1] = np.nan
    gaps.to_csv(folder / "gaps.csv", index=False)
    digits = load_digits()
    few = digits.target < 2
    pixels = (digits.images[few] * 15).astype(np.uint8)
    np.savez(folder / "digits.npz", images=pixels, labels=digits.target[few])
    np.savez(folder / "few.npz", images=pixels[:3])
    for words in (
        f"fit {folder}/iris.csv --target target --family nb -q -o {folder}/table",
        f"fit {folder}/digits.npz --family nb --predictor none -q -o {folder}/pictures",
    ):
        assert run(words.split()) == 0
    return folder


MADE = {
    "sample table": ("sample @table -n 5 --seed 1 -o made.csv", ["made.csv"]),
    "sample packed": ("sample @table -n 5 --seed 1 -o made.csv.gz", ["made.csv.gz"]),
    "sample parquet": ("sample @table -n 5 --seed 1 -o made.parquet", ["made.parquet"]),
    "impute": ("impute @table @gaps.csv -o full.csv", ["full.csv"]),
    "counterfactual": ("counterfactual @table @gaps.csv --to b -o other.csv", ["other.csv"]),
    "report": ("report @table -o page.html", ["page.html"]),
    "sheet": ("sample @pictures -n 4 --seed 1 -o sheet.png", ["sheet.png"]),
    "folder": ("sample @pictures -n 2 --seed 1 --y 1 -o drawn", ["drawn/1/000.png"]),
    "arrays": ("sample @pictures -n 2 --seed 1 -o drawn.npz", ["drawn.npz"]),
    "pictures as a table": ("sample @pictures -n 2 --seed 1 -o drawn.csv", ["drawn.csv"]),
    "impute pictures": ("impute @pictures @few.npz --hide top -o full.png", ["full.png"]),
}


@pytest.mark.parametrize("case", MADE)
def test_each_file_of_each_verb_is_marked_and_a_changed_byte_fails(home, say, tmp_path, case):
    if "parquet" in case:
        pytest.importorskip("pyarrow")
    line, files = MADE[case]
    told = say(line)
    assert "is marked as generated by" in told.err
    for file in files:
        assert "valid, signer unknown" in say(f"verify {file}").out
        data = (tmp_path / file).read_bytes()
        middle = len(data) // 2
        flipped = bytes([data[middle] ^ 1])
        (tmp_path / file).write_bytes(data[:middle] + flipped + data[middle + 1 :])
        assert "changed" in say(f"verify {file}", code=1).out
        (tmp_path / file).write_bytes(data)
    left = say(f"{line} --force --no-mark")
    assert "is not marked as generated (--no-mark); this is noted down in" in left.err
    for file in files:
        out = say(f"verify {file}", code=3).out
        assert "with marking turned off, by the record of this user" in out


def test_a_mark_beside_a_table_leaves_its_bytes_as_they_are(home, say, tmp_path):
    say("sample @table -n 5 --seed 1 -o one.csv")
    say("sample @table -n 5 --seed 1 -o two.csv --no-mark")
    assert (tmp_path / "one.csv").read_bytes() == (tmp_path / "two.csv").read_bytes()


def test_what_is_told_to_programs(home, say, tmp_path):
    found = json.loads(say("sample @table -n 5 --seed 1 -o one.csv --json").out)
    assert found["mark"]["marked"] is True
    assert [name.rpartition("/")[2] for name in found["mark"]["sidecars"]] == ["one.csv.mark.json"]
    found = json.loads(say("verify one.csv --json").out)
    assert (found["state"], found["facts"]["verb"]) == ("valid", "sample")
    (tmp_path / "mine.csv").write_text("a\n")
    assert json.loads(say("verify mine.csv --json", code=3).out)["state"] == "not marked"


def test_standard_output_carries_no_mark_and_says_so(home, say):
    assert "carries no mark" in say("sample @table -n 5 --seed 1 -o -").err


def test_files_that_are_gone_from_a_folder_inside_are_told(tmp_path, unsigned):
    (drawn(tmp_path, {"cat/0.txt": "miaow", "dog/0.txt": "woof"}) / "cat/0.txt").unlink()
    found = verify_folder(tmp_path)
    assert {name: each.state for name, each in found.items()} == {
        "out/dog/0.txt": VALID,
        "out/cat/0.txt": CHANGED,
    }
    assert found["out/cat/0.txt"].words.startswith("out/cat/0.txt: missing")


def test_a_mark_whose_file_is_gone_is_not_valid(tmp_path, unsigned):
    folder = drawn(tmp_path, {"0.txt": "miaow"})
    mark = sidecar_of(folder)
    assert verify(mark).state == VALID
    (folder / "0.txt").unlink()
    folder.rmdir()
    found = verify(mark)
    assert found.state == CHANGED
    assert "out, of which it speaks, is missing" in found.words


def test_a_link_is_told_by_its_own_name(tmp_path, unsigned):
    folder = drawn(tmp_path, {"0.txt": "miaow"})
    (folder / "link.txt").symlink_to(folder / "0.txt")
    assert verify_folder(folder)["link.txt"].words.startswith("link.txt: ")
