#!/usr/bin/env python3
"""Verifies and opens the golden files, using only FORMATS.md, `cryptography` and `zstandard`.

Usage: open.py [FOLDER]. It trusts the root fingerprint; all other keys come from root document and register. It prints
one line per check, then `N passed, M failed`, and exits with 1 if any failed. It shares no code with the program.
"""

import base64
import binascii
import hashlib
import hmac
import json
import re
import struct
import sys
from pathlib import Path

import zstandard
from cryptography.exceptions import InvalidSignature, InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, x25519
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand
from cryptography import x509


class Bad(Exception):
    """A failed check."""


def need(holds, reason):
    if not holds:
        raise Bad(reason)


# ---- Canonical JSON (RFC 8785) ----


def no_twins(pairs):
    need(len({name for name, _ in pairs}) == len(pairs), "a member name occurs twice")
    return dict(pairs)


def number(value):
    """ECMAScript's representation of a double, from the shortest digits, which Python's `repr` also finds."""
    if value == 0:
        return "0"
    sign = "-" if value < 0 else ""
    mantissa, _, exponent = repr(abs(float(value))).partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    point = len(whole) + int(exponent or 0) - (len(whole + fraction) - len(digits))
    digits = digits.rstrip("0")
    if len(digits) <= point <= 21:
        return sign + digits + "0" * (point - len(digits))
    if 0 < point <= 21:
        return sign + digits[:point] + "." + digits[point:]
    if -6 < point <= 0:
        return sign + "0." + "0" * -point + digits
    tail = "." + digits[1:] if len(digits) > 1 else ""
    return f"{sign}{digits[0]}{tail}e{point - 1:+d}"


def string(text):
    short = {0x22: '\\"', 0x5C: "\\\\", 8: "\\b", 9: "\\t", 10: "\\n", 12: "\\f", 13: "\\r"}
    escape = lambda c: short.get(ord(c)) or (f"\\u{ord(c):04x}" if ord(c) < 0x20 else c)
    return '"' + "".join(map(escape, text)) + '"'


def jcs(value):
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, (int, float)):
        return number(value)
    if isinstance(value, str):
        return string(value)
    if isinstance(value, list):
        return "[" + ",".join(map(jcs, value)) + "]"
    order = sorted(value, key=lambda name: name.encode("utf-16-be"))
    return "{" + ",".join(string(name) + ":" + jcs(value[name]) for name in order) + "}"


def canonical(value):
    return jcs(value).encode()


def read_json(data):
    return json.loads(data.decode(), object_pairs_hook=no_twins)


def read_canonical(data):
    value = read_json(data)
    need(canonical(value) == data, "not canonical JSON")
    return value


# ---- Digests and keys ----


def sha256(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def digest(data):
    return "sha256:" + sha256(data).hex()


def labelled(label, *parts):
    return "sha256:" + sha256(label.encode(), b"\0", *parts).hex()


def keyed(secret, label, data):
    key = HKDF(hashes.SHA256(), 32, None, label.encode()).derive(secret)
    return "hmac-sha256:" + hmac.new(key, data, hashlib.sha256).hexdigest()


def unbase64url(text):
    need(re.fullmatch("[A-Za-z0-9_-]*", text), "not base64url")
    data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    need(base64.urlsafe_b64encode(data).rstrip(b"=").decode() == text, "not strict base64url")
    return data


def verify_ed25519(public, signature, message):
    try:
        ed25519.Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        raise Bad("the signature is invalid")


# ---- Signed documents (RFC 7515) ----


def signer(protected, payload, signature, kind, keys):
    header = read_json(unbase64url(protected))
    need(set(header) == {"alg", "kid", "typ"}, "the protected header must have exactly alg, kid and typ")
    need(header["alg"] == "EdDSA" and header["typ"] == f"crosspark-{kind}+jws", "unexpected alg or typ")
    need(header["kid"] in keys, f"unknown key {header['kid']}")
    verify_ed25519(keys[header["kid"]], unbase64url(signature), f"{protected}.{payload}".encode())
    return header["kid"]


def payload_of(encoded, kind):
    data = unbase64url(encoded)
    body = read_canonical(data)
    need(body.get("suite") == "crosspark/1" and body.get("format") == f"{kind}/1", "unexpected suite or format")
    need(body.get("critical") == [], "the document has critical members")
    return body, digest(data)


def document(data, kind, keys, author=None):
    """A compact JWS: (kid, payload, digest). `author` is the member with the participant that must have signed."""
    parts = data.decode().split(".")
    need(len(parts) == 3, "a compact JWS must have three parts")
    kid = signer(*parts, kind, keys)
    body, of_payload = payload_of(parts[1], kind)
    if author:
        need(kid.split("#")[0] == body[author], "not signed by the participant it names")
    return kid, body, of_payload


def many_signed(data, kind):
    """A general JWS: (payload, digest, a function that verifies every signature and returns the kids)."""
    whole = read_json(data)
    need(set(whole) == {"payload", "signatures"}, "a general JWS must have exactly payload and signatures")
    body, of_payload = payload_of(whole["payload"], kind)

    def signers(keys):
        each = [signer(s["protected"], whole["payload"], s["signature"], kind, keys) for s in whole["signatures"]]
        need(len(set(each)) == len(each), "two signatures by the same key")
        return each

    return body, of_payload, signers


# ---- FLOE (c2sp.org/FLOE) ----

HEADER_BYTES, OVERHEAD = 10 + 32 + 32, 4 + 12 + 16


class Floe:
    def __init__(self, data, key, context, segment):
        self.body, self.segment, self.context = data[HEADER_BYTES:], segment, context
        self.parameters, self.iv = data[:10], data[10:42]
        need(self.parameters == struct.pack(">BBII", 0, 0, segment, 32), "unexpected FLOE parameters")
        need(self.derive(key, b"HEADER_TAG:", 32) == data[42:HEADER_BYTES], "the tag of the FLOE header is invalid")
        self.message_key = self.derive(key, b"MESSAGE_KEY:", 48)
        self.count = max(1, -(-len(self.body) // segment))
        self.size = len(self.body) - self.count * OVERHEAD

    def derive(self, key, purpose, length):
        info = self.parameters + self.iv + purpose + self.context
        return HKDFExpand(hashes.SHA384(), length, info).derive(key)

    def open_segment(self, position):
        sealed = self.body[position * self.segment : (position + 1) * self.segment]
        last = position == self.count - 1
        need(len(sealed) >= OVERHEAD, "a FLOE segment is too short")
        expected = len(sealed) if last else 0xFFFFFFFF
        need(struct.unpack(">I", sealed[:4])[0] == expected, "a FLOE segment states another length")
        rotated = position >> 20 << 20
        key = self.derive(self.message_key, b"DEK:" + struct.pack(">Q", rotated), 32)
        context = struct.pack(">QB", position, last)
        try:
            return AESGCM(key).decrypt(sealed[4:16], sealed[16:], context)
        except InvalidTag:
            raise Bad(f"FLOE segment {position} is not authentic")

    def read(self, begin, end):
        need(0 <= begin <= end <= self.size, "the range is outside the container")
        room = self.segment - OVERHEAD
        first, last = begin // room, max(begin, end - 1) // room
        text = b"".join(self.open_segment(n) for n in range(first, min(last, self.count - 1) + 1))
        return text[begin - first * room : end - first * room]


def frames(floe):
    """The seek table: (offset, length, first record, records) of each frame."""
    count, magic = struct.unpack("<I8s", floe.read(floe.size - 12, floe.size))
    need(magic == b"CPFRAME1", "the text does not end with a seek table")
    begin = floe.size - 8 - 24 * count - 12
    table = floe.read(begin, floe.size)
    need(struct.unpack("<II", table[:8]) == (0x184D2A5C, 24 * count + 12), "the seek table is not in a skippable frame")
    found = list(struct.iter_unpack("<QIQI", table[8 : 8 + 24 * count]))
    offset = record = 0
    for at, length, first, records in found:
        need((at, first) == (offset, record) and length > 0, "frames overlap or leave gaps")
        offset, record = offset + length, record + records
    need(offset == begin, "some bytes are not in any frame")
    return found


# ---- HPKE (RFC 9180) with X-Wing ----


def x_wing(secret, enc):
    """The shared secret and the public key (draft-connolly-cfrg-xwing-kem)."""
    from cryptography.hazmat.primitives.asymmetric import mlkem

    seed = hashlib.shake_256(secret).digest(96)
    lattice = mlkem.MLKEM768PrivateKey.from_seed_bytes(seed[:64])
    curve = x25519.X25519PrivateKey.from_private_bytes(seed[64:])
    raw = curve.public_key().public_bytes_raw()
    shared = curve.exchange(x25519.X25519PublicKey.from_public_bytes(enc[1088:]))
    parts = lattice.decapsulate(enc[:1088]) + shared + enc[1088:] + raw + b"\\.//^\\"
    return hashlib.sha3_256(parts).digest(), lattice.public_key().public_bytes_raw() + raw


def hpke_open(shared, info, sealed):
    suite = b"HPKE" + struct.pack(">HHH", 0x647A, 1, 2)

    def extract(salt, label, ikm):
        return hmac.new(salt or bytes(32), b"HPKE-v1" + suite + label + ikm, hashlib.sha256).digest()

    def expand(prk, label, context, length):
        whole = struct.pack(">H", length) + b"HPKE-v1" + suite + label + context
        return HKDFExpand(hashes.SHA256(), length, whole).derive(prk)

    context = b"\0" + extract(b"", b"psk_id_hash", b"") + extract(b"", b"info_hash", info)
    secret = extract(shared, b"secret", b"")
    key, nonce = expand(secret, b"key", context, 32), expand(secret, b"base_nonce", context, 12)
    try:
        return AESGCM(key).decrypt(nonce, sealed, b"")
    except InvalidTag:
        raise Bad("the released key cannot be decrypted")


# ---- Merkle tree (RFC 9162) and checkpoint (C2SP) ----


def leaf_hash(data):
    return sha256(b"\0", data)


def root_of(leaves):
    if len(leaves) == 1:
        return leaves[0]
    split = 1 << (len(leaves) - 1).bit_length() - 1
    return sha256(b"\1", root_of(leaves[:split]), root_of(leaves[split:]))


def root_by_proof(index, size, leaf, proof):
    """RFC 9162 section 2.1.3.2."""
    need(index < size, "the index is outside the tree")
    first, second, result = index, size - 1, leaf
    for step in proof:
        need(second > 0, "the proof is too long")
        if first & 1 or first == second:
            result = sha256(b"\1", step, result)
            while not first & 1 and first:
                first, second = first >> 1, second >> 1
        else:
            result = sha256(b"\1", result, step)
        first, second = first >> 1, second >> 1
    need(second == 0, "the proof is too short")
    return result


def checkpoint(note, origin, public):
    """Size and root of a checkpoint signed by `public`."""
    body, blank, lines = note.rpartition("\n\n")
    need(blank and lines.endswith("\n"), "not a signed note")
    name, size, root = body.split("\n")
    need(name == origin and str(int(size)) == size, "unexpected origin or size")
    ours = sha256(origin.encode(), b"\n\x01", public)[:4]
    found = False
    for line in lines[:-1].split("\n"):
        dash, name, encoded = line.split(" ")
        need(dash == "\u2014", "a signature line must begin with a dash")
        signature = base64.b64decode(encoded, validate=True)
        if name == origin and signature[:4] == ours:
            verify_ed25519(public, signature[4:], (body + "\n").encode())
            found = True
    need(found, "not signed by the log's key")
    hash_ = base64.b64decode(root, validate=True)
    need(len(hash_) == 32 and base64.b64encode(hash_).decode() == root, "the root is not a hash")
    return int(size), hash_


# ---- The checks ----


class Golden:
    """The checks in their order, and their results. A check that needs the result of a failed one fails too."""

    def __init__(self, folder):
        self.folder, self.passed, self.failed = folder, 0, 0

    def data(self, name):
        return (self.folder / name).read_bytes()

    def text(self, name):
        return self.data(name).decode()

    def secret(self, name):
        return bytes.fromhex(self.text(name).strip())

    def check(self, name, work):
        try:
            work()
        except AttributeError as error:
            self.failed += 1
            print(f"FAILED {name}: no {error.name}, because an earlier check failed")
        except (Bad, ValueError, KeyError, TypeError, IndexError, struct.error, binascii.Error, zstandard.ZstdError) as error:
            self.failed += 1
            print(f"FAILED {name}: {type(error).__name__}: {error}")
        else:
            self.passed += 1
            print(f"ok {name}")

    def root(self):
        body, of_payload, signers = many_signed(self.data("root.json"), "root")
        fingerprint = "sha256:" + self.text("root-fingerprint.txt").replace(" ", "").strip()
        need(of_payload == fingerprint, "the fingerprint differs")
        keys = {key["id"]: unbase64url(key["public"]) for key in body["signers"]}
        need(len(set(keys.values())) == len(body["signers"]), "a root key is listed twice")
        need(len(signers(keys)) >= body["threshold"] >= 1, "fewer root keys signed than the threshold")
        self.root_body, self.root_digest = body, of_payload

    def register(self):
        key = self.root_body["register_key"]
        keys = {key["id"]: unbase64url(key["public"])}
        _, body, of_payload = document(self.data("register.jws"), "register", keys, "alliance")
        need(body["root"] == self.root_digest and body["alliance"] == self.root_body["alliance"], "for another root document")
        entries = [key for member in body["members"] for key in member["keys"]]
        need(len({key["public"] for key in entries}) == len(entries), "a key is listed twice")
        by_use = lambda use: {key["id"]: unbase64url(key["public"]) for key in entries if key["use"] == use}
        self.document_keys, self.log_keys, self.witness_keys = by_use("document"), by_use("log"), by_use("witness")
        self.register_body, self.register_digest = body, of_payload

    def key_list(self):
        known = [*self.root_body["signers"], self.root_body["register_key"]]
        expected = {key["id"]: unbase64url(key["public"]) for key in known}
        expected.update(self.document_keys | self.log_keys | self.witness_keys)
        found = {kid: unbase64url(public) for kid, public in read_json(self.data("keys.json")).items()}
        need(found == expected, "keys.json does not list the keys of root document and register")

    def join_request(self):
        body, of_payload, signers = many_signed(self.data("join-request.json"), "join")
        fingerprint = "sha256:" + self.text("join-fingerprint.txt").replace(" ", "").strip()
        need(of_payload == fingerprint, "the fingerprint differs")
        by_use = {key["use"]: key for key in body["keys"]}
        need(sorted(by_use) == ["document", "log", "tls", "witness"], "there must be exactly one key per use")
        plain = {key["id"]: unbase64url(key["public"]) for use, key in by_use.items() if use != "tls"}
        need(set(signers(plain)) == set(plain), "not signed by all keys")
        request = x509.load_der_x509_csr(unbase64url(body["csr"]))
        curve = request.public_key().curve
        need(isinstance(curve, ec.SECP256R1) and request.is_signature_valid, "the CSR's key or signature is invalid")
        encoded = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        proven = request.public_key().public_bytes(*encoded)
        need(proven == unbase64url(by_use["tls"]["public"]), "the CSR is for another key")
        member = next(m for m in self.register_body["members"] if m["id"] == body["participant"])
        need(member["keys"] == body["keys"], "the register lists other keys")

    def rotation(self):
        body, _, signers = many_signed(self.data("rotation.json"), "rotation")
        new = {key["id"]: unbase64url(key["public"]) for key in body["keys"] if key["use"] != "tls"}
        signed = set(signers(new | self.document_keys))
        need(set(new) <= signed, "not signed by all new keys")
        need(any(kid.startswith(body["participant"] + "#") for kid in signed - set(new)), "not signed by an old key")
        for key in body["keys"]:
            kid, proof, _ = document(key["proof"].encode(), "key-proof", self.document_keys, "participant")
            bare = {name: value for name, value in key.items() if name != "proof"}
            need(proof == proof | {"participant": body["participant"], "key": bare}, "the proof is for another key")

    def manifest(self):
        _, body, of_payload = document(self.data("manifest.jws"), "manifest", self.document_keys, "publisher")
        self.manifest_body, self.manifest_digest = body, of_payload

    def schema(self):
        schema = read_canonical(self.data("schema.json"))
        stated = self.manifest_body["schema"]
        need(stated["digest"] == labelled("crosspark/schema/v1", canonical(schema)), "the schema digest differs")
        need((stated["id"], stated["version"]) == (schema["$id"], schema["x-version"]), "the id or version differs")
        need(stated in self.register_body["schemas"], "the register does not list the schema")

    def container_digest(self):
        data, stated = self.data("container.sealed"), self.manifest_body["container"]
        need(len(data) == stated["size"], "the size differs")
        need(digest(data) == stated["digest"], "the digest differs")

    def container(self):
        manifest, key = self.manifest_body, self.secret("data-key.hex")
        need(manifest["container"]["algorithm"] == "FLOE-AES-256-GCM-HKDF-SHA-384", "unexpected algorithm")
        names = {name: manifest[name] for name in ("publisher", "dataset", "version")}
        context = canonical({**names, "schema": manifest["schema"]["digest"]})
        floe = Floe(self.data("container.sealed"), key, context, manifest["container"]["segment"])
        for position in range(floe.count):
            floe.open_segment(position)
        self.floe = floe

    def records(self):
        found = frames(self.floe)
        text = b""
        for offset, length, _, records in found:
            frame = zstandard.ZstdDecompressor().decompress(self.floe.read(offset, offset + length))
            need(frame.count(b"\n") == records and frame.endswith(b"\n"), "the number of records in a frame differs")
            text += frame
        for line in text.splitlines():
            need(isinstance(read_canonical(line), dict), "a record is not an object")
        need(text == self.data("records.ndjson"), "the records differ from records.ndjson")
        stated = self.manifest_body
        need(stated["records"] == sum(frame[3] for frame in found), "the number of records differs")
        need((stated["text"]["frames"], stated["text"]["size"]) == (len(found), len(text)), "the frames or size differ")
        self.plain = text

    def one_stream(self):
        whole = self.floe.read(0, self.floe.size)
        reader = zstandard.ZstdDecompressor().stream_reader(whole, read_across_frames=True)
        need(reader.read() == self.plain, "a plain zstd reader yields another text")

    def keyed_digests(self):
        key = self.secret("data-key.hex")
        text, source = self.manifest_body["text"]["digest"], self.manifest_body["provenance"]["source"]
        need(keyed(key, "crosspark/plaintext/v1", self.plain) == text, "the keyed digest of the text differs")
        published = self.data("source.ndjson")
        need(keyed(key, "crosspark/source/v1", published) == source, "the keyed digest of the source differs")

    def claim(self):
        _, self.claim_body, _ = document(self.data("claim.jws"), "claim", self.document_keys, "consumer")

    def agreement(self):
        sides = [
            (side, *document(self.data(f"agreement.{side}.jws"), "agreement", self.document_keys))
            for side in ("provider", "consumer")
        ]
        for side, kid, body, _ in sides:
            need(kid.split("#")[0] == body[side], f"not signed by the {side}")
        need(sides[0][3] == sides[1][3], "provider and consumer signed different payloads")
        body, claim = sides[0][2], self.claim_body
        for name in ("provider", "consumer", "dataset", "purpose", "enterprise", "person"):
            need(body[name] == claim[name], f"agreement and claim differ in {name}")
        need(body["manifest"] == self.manifest_digest and body["versions"] == {"one": 1}, "not for this manifest")
        self.agreement_body, self.agreement_digest = body, sides[0][3]

    def policy(self):
        body = self.agreement_body
        of_policy = labelled("crosspark/policy/v1", canonical(body["policy"]))
        need(body["policy_digest"] == of_policy, "the policy digest in the agreement differs")
        need(self.manifest_body["policy"] == of_policy, "the policy digest in the manifest differs")

    def key_request(self):
        _, body, of_payload = document(self.data("key-request.jws"), "key-request", self.document_keys, "consumer")
        need(body["hpke"] == "X-Wing/HKDF-SHA256/AES-256-GCM", "unexpected HPKE suite")
        need(body["agreement"] == self.agreement_digest, "the request is for another agreement")
        need(body["manifest"] == self.manifest_digest, "the request is for another manifest")
        self.request_body, self.request_digest = body, of_payload
        checkpoint(body["seen"], self.origin(), self.log_key())

    def key_answer(self):
        _, body, _ = document(self.data("key-answer.jws"), "key-answer", self.document_keys, "provider")
        need(body["request"] == self.request_digest, "the answer is for another request")
        self.answer_body = body

    def key_release(self):
        enc, sealed = unbase64url(self.answer_body["enc"]), unbase64url(self.answer_body["sealed"])
        shared, public = x_wing(self.secret("one-time-key.hex"), enc)
        need(public == unbase64url(self.request_body["key"]), "the one-time key in the request differs")
        info = b"crosspark/key-release/v1\0" + bytes.fromhex(self.request_digest.removeprefix("sha256:"))
        need(hpke_open(shared, info, sealed) == self.secret("data-key.hex"), "the released data key differs")

    def receipt(self):
        _, body, _ = document(self.data("receipt.jws"), "receipt", self.document_keys, "consumer")
        need(body["agreement"] == self.agreement_digest, "the receipt is for another agreement")
        need(body["manifest"] == self.manifest_digest, "the receipt is for another manifest")
        stated = self.manifest_body
        need((body["bytes"], body["records"]) == (stated["container"]["size"], stated["records"]), "the size differs")

    def origin(self):
        return self.manifest_body["publisher"].removeprefix("did:web:") + "/log/1"

    def log_key(self):
        owner = self.manifest_body["publisher"]
        return next(key for kid, key in self.log_keys.items() if kid.split("#")[0] == owner)

    def verifier_key(self):
        origin, public = self.origin(), self.log_key()
        ours = sha256(origin.encode(), b"\n\x01", public)[:4].hex()
        text = f"{origin}+{ours}+{base64.b64encode(bytes([1]) + public).decode()}"
        need(self.text("log/verifier-key.txt").strip() == text, "the verifier key differs")

    def checkpoint(self):
        self.size, self.tree_root = checkpoint(self.text("log/checkpoint"), self.origin(), self.log_key())

    def leaves(self):
        entries, leaves = read_json(self.data("log/entries.json")), {}
        last = ""
        for line in entries:
            entry, salt = line["entry"], bytes.fromhex(line["salt"])
            need(entry["origin"] == self.origin() and entry["version"] == 1, "an entry belongs to another log")
            need(line["leaf"] == labelled("crosspark/entry/v1", salt, canonical(entry)), "the leaf of an entry differs")
            need(entry["time"] >= last, "an entry is older than its predecessor")
            last, leaves[entry["id"]] = entry["time"], line["leaf"]
        self.entries, self.leaf_of = entries, leaves

    def fields(self):
        openings = [(line["entry"], field) for line in self.entries for field in line.get("fields", [])]
        for entry, field in openings:
            text = canonical([field["name"], field["value"]])
            hidden = labelled("crosspark/field/v1", bytes.fromhex(field["salt"]), text)
            need(entry["fields"][field["name"]] == hidden, "the commitment to a field differs")
            need(self.agreement_body[field["name"]] == hidden, "the agreement names another person")
        need(openings, "there is no opening of a personal field")

    def tree(self):
        hashes_ = [leaf_hash(bytes.fromhex(line["leaf"].removeprefix("sha256:"))) for line in self.entries]
        need(len(hashes_) == self.size, "the size of the checkpoint differs")
        need(root_of(hashes_) == self.tree_root, "the root of the entries differs")
        self.tree_leaves = hashes_

    def inclusion(self):
        proof = read_json(self.data("log/inclusion-proof.json"))
        steps = [bytes.fromhex(step) for step in proof["proof"]]
        leaf = self.tree_leaves[proof["index"]]
        need(proof["size"] == self.size, "the proof is for another tree size")
        need(root_by_proof(proof["index"], self.size, leaf, steps) == self.tree_root, "the root of the proof differs")

    def promise(self):
        _, body, _ = document(self.data("promise.jws"), "promise", self.document_keys, "participant")
        need(body["origin"] == self.origin(), "the promise is for another log")
        need(self.leaf_of.get(body["entry"]) == body["leaf"], "the log does not contain the promised entry")

    def schema_statement(self):
        _, body, _ = document(self.data("schema-statement.jws"), "schema", self.document_keys, "publisher")
        need(body["id"].startswith(body["publisher"] + "/"), "the schema is in another namespace")

    def evidence(self):
        detail = {line["entry"]["kind"]: line["entry"].get("detail", {}) for line in self.entries}
        need(detail["register.installed"]["digest"] == self.register_digest, "another register was installed")
        need(detail["dataset.published"]["manifest"] == self.manifest_digest, "another manifest was published")
        sides = [detail["negotiation.moved"][f"{side}Signature"] for side in ("provider", "consumer")]
        need(sides == [self.text(f"agreement.{side}.jws") for side in ("provider", "consumer")], "other signatures")
        need(detail["key.released"]["request"] == self.request_digest, "another request was answered")
        need(detail["receipt.received"]["receipt"] == self.text("receipt.jws"), "another receipt was received")

    def run(self):
        for name, work in [
            ("root document, threshold and fingerprint", self.root),
            ("register", self.register),
            ("public keys", self.key_list),
            ("join request", self.join_request),
            ("rotation and key proof", self.rotation),
            ("manifest", self.manifest),
            ("schema digest", self.schema),
            ("container digest and size", self.container_digest),
            ("container opens (FLOE)", self.container),
            ("records through the seek table", self.records),
            ("records as one zstd stream", self.one_stream),
            ("keyed digests of text and source", self.keyed_digests),
            ("claim", self.claim),
            ("agreement signed by both sides", self.agreement),
            ("policy digest", self.policy),
            ("key request", self.key_request),
            ("key answer", self.key_answer),
            ("receipt", self.receipt),
            ("verifier key", self.verifier_key),
            ("checkpoint signature and key id", self.checkpoint),
            ("leaf commitments", self.leaves),
            ("field commitments", self.fields),
            ("tree root", self.tree),
            ("inclusion proof", self.inclusion),
            ("promise is kept", self.promise),
            ("schema statement", self.schema_statement),
            ("log agrees with the documents", self.evidence),
        ]:
            self.check(name, work)
        try:
            x_wing(bytes(32), bytes(1088) + b"\x09" + bytes(31))
        except (ImportError, UnsupportedAlgorithm):
            print("skipped released key (HPKE): this cryptography has no ML-KEM-768")
        else:
            self.check("released key (HPKE)", self.key_release)
        print(f"{self.passed} passed, {self.failed} failed")
        return self.failed == 0


if __name__ == "__main__":
    given = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent
    sys.exit(0 if Golden(given).run() else 1)
