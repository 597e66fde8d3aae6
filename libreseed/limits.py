"""Every bound on what a peer, a publisher or a file can feed, with its unit, in one place.

A limit that guards a format is part of the specification (``docs/specification/``); one that guards a process is an
operator's matter and may be tightened by configuration, never loosened past the format's.
"""

from __future__ import annotations

__all__: list[str] = []  # constants are used as ``limits.NAME``

# --- 3.1 encodings -----------------------------------------------------------------------------------------------
JSON_DEPTH = 32  # nested containers, the outermost counts 1
JSON_INTEGER = 2**53 - 1  # absolute value
MANIFEST_BYTES = 16 * 2**20
ATTESTATION_BYTES = 64 * 2**10
DHT_RECORD_BYTES = 2**10  # name@version.dht.json
INDEX_RECORD_BYTES = 4 * 2**10  # name.index.dht.json; its value alone is at most 1000 bytes bencoded
BUNDLE_BYTES = 2**20
NAME_CHARS = 64
VERSION_CHARS = 64

# --- key files (docs/specification/keys.md) ------------------------------------------------------------------------
KEY_FILE_BYTES = 2**10
KEY_KDF_PASSES = 16  # argon2id, at most
KEY_KDF_MEMORY_MIN = 8 * 2**10  # bytes, libsodium's least
KEY_KDF_MEMORY_MAX = 2**30  # bytes
PASSPHRASE_BYTES = 2**10

# --- 3.3, 3.4 archive ----------------------------------------------------------------------------------------------
ARCHIVE_ENTRIES = 100_000
PATH_BYTES = 1024
SEGMENT_BYTES = 255
PATH_DEPTH = 64
FILE_BYTES = 8 * 2**30 - 1
RATIO = 200  # uncompressed : compressed
RATIO_FREE_BYTES = 16 * 2**20  # the ratio is judged once this many bytes are out
USTAR_NAME_BYTES = 100
TAR_END_BYTES = 1024

# --- 3.5 minimal manifest ------------------------------------------------------------------------------------------
MINIMAL_BYTES = 996  # 1000 as a bencoded string
CLOCK_AHEAD_MS = 24 * 3600 * 1000

# --- 3.6 chunks ------------------------------------------------------------------------------------------------------
CHUNK_BYTES = 5120
STRIPE_ROWS = 256  # k + m
STRIPE_DATA_ROWS = 244
COHERENCE_NUM, COHERENCE_DEN = 954, 1000
PACKAGE_BYTES = 2**40  # default policy bound for a .tgz
CHUNKS = 2**32 - 1  # N is a u32
CHUNK_MAP_HEADER_BYTES = 80

# --- 3.7 torrent -------------------------------------------------------------------------------------------------
PIECE_BYTES_MIN = 16 * 2**10
PIECE_BYTES_MAX = 4 * 2**20
METAINFO_BYTES = 64 * 2**20  # a .torrent; 1 TiB with the most parity needs 27 MB
TORRENT_INFO_BYTES = 32 * 2**20  # an info dictionary taken from a peer (BEP 9)

# --- 3.8 DHT -------------------------------------------------------------------------------------------------------
ITEM_VALUE_BYTES = 1000  # bencoded v, BEP 44
ITEM_SALT_BYTES = 64
ITEM_SEQ = 2**63 - 1

# --- seeder's control socket ---------------------------------------------------------------------------------------
CONTROL_REQUEST_BYTES = 16 * 2**10  # one line
CONTROL_RESPONSE_BYTES = 16 * 2**20  # one line; a list of some 20,000 releases
CONTROL_CONNECTIONS = 16  # at once
CONTROL_REQUEST_SECONDS = 5  # for the whole request line
CONTROL_REPLY_SECONDS = 30  # for a client to take one line
CONTROL_BEAT_SECONDS = 5  # between lines while a command works
CONTROL_SILENCE_SECONDS = 30  # after which a client gives up on the daemon
