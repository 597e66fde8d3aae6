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
PAX_BYTES = 4096  # one path record needs less; more is read only to name what is wrong
TAR_END_BYTES = 1024
DEFLATE_BLOCK_BYTES = 512 * 2**10  # how input is fed decides the compressed bytes: part of the format
DEFLATE_WINDOW_BYTES = 32 * 2**10
IGNORE_FILE_BYTES = 2**20  # .libreseedignore

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
SCATTERED_READS = 64  # pieces of memory that one read may fill; the system's IOV_MAX is 1024
REPAIR_WINDOW_BYTES = 8 * 2**20  # working memory of one thread that codes

# --- 3.7 torrent -------------------------------------------------------------------------------------------------
PIECE_BYTES_MIN = 16 * 2**10
PIECE_BYTES_MAX = 4 * 2**20
METAINFO_BYTES = 64 * 2**20  # a .torrent; 1 TiB with the most parity needs 27 MB
METAINFO_FRAME_BYTES = 4 * 2**10  # of a .torrent, all but its hashes
LEGACY_CALLERS = 64  # clients with a wrong info-hash that are served at once
LEGACY_HANDSHAKE_SECONDS = 10
LEGACY_PORTION_BYTES = 256 * 2**10
TORRENT_INFO_BYTES = 32 * 2**20  # an info dictionary taken from a peer (BEP 9)

PEER_BLOCK_BYTES = 16 * 2**10  # what one request to a peer may ask for (BEP 3)
PEER_FRAME_BYTES = 2**17  # a message from a peer; a bitfield of 2**20 pieces fits
PEER_REQUESTS = 64  # open requests to one peer, 1 MiB
PEERS_REMEMBERED = 200  # of one torrent, to be called again when it is put in anew
PEER_PATIENCE_S = 8.0  # seconds without any answer before a peer is given up

# --- 3.8 DHT -------------------------------------------------------------------------------------------------------
ITEM_VALUE_BYTES = 1000  # bencoded v, BEP 44
ITEM_SALT_BYTES = 64
ITEM_SEQ = 2**63 - 1
KRPC_BYTES = 2048  # a datagram that is read; ours are at most KRPC_SEND_BYTES
KRPC_SEND_BYTES = 1400
KRPC_TRANSACTION_BYTES = 32
KRPC_METHOD_BYTES = 32
DHT_TOKEN_SECONDS = 300  # a write token lives one to two of these
DHT_NODES_PER_ANSWER = 8  # that we give (BEP 5)
DHT_NODES_READ = 32  # that we take from one answer, per family
DHT_PEERS_PER_ANSWER = 50  # that we give
DHT_PEERS_READ = 128  # that we take from one answer
DHT_PEERS_PER_SEARCH = 1000
DHT_BUCKET_NODES = 20
DHT_BUCKET_SPARE_NODES = 20  # replacement candidates per bucket
DHT_SEARCH_QUERIES = 200
DHT_SEARCH_CANDIDATES = 400
DHT_SEARCH_SECONDS = 30
DHT_OPERATIONS = 256  # at one time
DHT_PENDING_QUERIES = 4096
DHT_UNPROVEN_PINGS = 64  # to askers that might enter the table, at one time
DHT_ITEMS = 8192
DHT_ITEM_STORE_BYTES = 8 * 2**20
DHT_ITEM_SECONDS = 7200  # without a re-put (BEP 44)
DHT_ITEMS_PER_SOURCE = 2048
DHT_ITEMS_PER_KEY = 2048
DHT_PEERS = 32768
DHT_PEERS_PER_HASH = 256
DHT_PEERS_PER_HASH_AND_SOURCE = 4
DHT_PEERS_PER_SOURCE = 8192
DHT_PEER_SECONDS = 1800
DHT_GUARD_SOURCES = 4096
DHT_QUERIES_PER_SECOND = 100  # per source, sustained
DHT_QUERY_BURST = 400
DHT_FIRST_BYTES = 1500  # that an unproven source may be sent ahead of what it has sent
DHT_AMPLIFICATION = 3  # bytes sent per byte received from an unproven source, beyond DHT_FIRST_BYTES
DHT_PROVEN_SECONDS = 900
DHT_UPLOAD_BYTES_PER_SECOND = 256 * 2**10  # answers of all kinds, together
DHT_LISTED_RECORDS = 64  # that one ls_records exchange yields
DHT_FOUND_RECORDS = 256  # that one name discovery yields
DHT_DISCOVERY_PEERS = 16  # asked in one name discovery
DHT_DOUBT_SECONDS = 60  # a contact silent for this long is pinged when a newcomer wants its place
DHT_STATE_BYTES = 256 * 2**10  # the file of good nodes
DHT_STATE_NODES = 400

# --- seeder's control socket ---------------------------------------------------------------------------------------
CONTROL_REQUEST_BYTES = 16 * 2**10  # one line
CONTROL_RESPONSE_BYTES = 16 * 2**20  # one line; a list of some 20,000 releases
CONTROL_CONNECTIONS = 64  # at once
CONTROL_DESCRIPTORS = 8  # open files handed over with a request
CONTROL_REQUEST_SECONDS = 5  # for the whole request line
CONTROL_REPLY_SECONDS = 30  # for a client to take one line
CONTROL_BEAT_SECONDS = 5  # between lines while a command works
CONTROL_SILENCE_SECONDS = 30  # after which a client gives up on the daemon

SPOT_SECONDS = 15  # between two looks at what peers are being given, unless the operator says otherwise
SPOT_CHUNKS = 32  # looked at then, of each release
SPOT_PAUSE_SECONDS = 600  # between two full checks of a release because of such a look

# --- HTTP (docs/specification/http.md) ------------------------------------------------------------------------------
HTTP_BODY_BYTES = 2**20  # of a request, unless a service says otherwise
HTTP_CONNECTIONS = 1000  # at once
HTTP_CONNECTIONS_PER_CLIENT = 100  # a client is an IPv4 address or an IPv6 /64
HTTP_FRAMES_BYTES = 256 * 2**10  # of an HTTP/2 stream, written at once
HTTP_HEAD_BYTES = 16 * 2**10  # request line and header fields
HTTP_PORTION_BYTES = 2**20  # of an answer, in memory at once
HTTP_RANGES = 16  # in one request
HTTP_RANGE_CHARS = 1024
HTTP_RATE_CLIENTS = 16_384  # whose rate is remembered
HTTP_REDIRECTS = 5
HTTP_REQUESTS_PER_CONNECTION = 10_000
HTTP_RESETS = 200  # of HTTP/2 streams by the client, on one connection
HTTP_STREAMS = 64  # at once on one HTTP/2 connection
HTTP_URL_CHARS = 2048

# --- mirror (docs/specification/mirror.md) --------------------------------------------------------------------------
MIRROR_NOTE_BYTES = 2 * 2**20  # what a mirror remembers of one copy
MIRROR_RELEASES = 100_000  # in one store
MIRROR_RETRY_SECONDS = 60  # after which a mirror tries anew to heal what it could not, if somebody asks for it
MIRROR_LIST_BYTES = 64 * 2**20  # another mirror's releases.json

# --- resolver ----------------------------------------------------------------------------------------------------
POLICY_BYTES = 2**20
STORE_RECORD_BYTES = 64 * 2**10  # a floor or a receipt
RESOLVE_SECONDS = 3600  # for a resolve to which no time was given, and besides
RESOLVE_BYTES_PER_SECOND = 16 * 2**10  # the slowest rate that such a one waits for, on the average
FETCH_QUIET_SECONDS = 1  # without news of a missing piece before parity is asked for
MIN_AGE_SECONDS = 10 * 366 * 24 * 3600  # that a policy may demand of a release
PROOF_SOURCES = 16  # asked for the proofs of one release
PROOF_HEDGE_SECONDS = 3  # after which another source of proofs is asked beside one that has not answered
PROOF_SOURCE_SECONDS = 60  # for the bundle and the tiles of one source
PROOF_ATTEMPTS = 4  # at one head, when other processes learn of newer ones meanwhile
PIECE_FAILURES = 3  # after which a piece is left to single chunks and parity, or to a peer without fault
PIECE_FAILURES_MOST = 8  # after which no peer is asked for the whole piece

# --- 3.9 AuraSeal --------------------------------------------------------------------------------------------------
PART_HEADER_BYTES = 256
PART_FOOTER_BYTES = 128
CODE_BITS = 15  # the longest Huffman code
CODE_TABLE_BYTES = 128  # 256 lengths of 4 bits
CODER_GROUP_BLOCKS = 128  # encoded at once
CODER_LOOKUP_ENTRIES = 6 * 2**20  # of the look-up tables of the blocks that are decoded at once, 2 bytes each
COMPONENTS = 256  # of one division
COMPONENT_PARTS = 256
COMPONENT_PARITY_PARTS = 32
INTEGRITY_MANIFEST_BYTES = 16 * 2**20
ZIP_ENTRIES = 65534  # of a DIRAM package; more would need zip64
ZIP_PATH_CHARS = 64
WEB_COMPONENT_BYTES = 32 * 2**20  # that a page loads with auraseal.js, which has the same bound
WEB_PAGE_BYTES = 16 * 2**20

# --- 3.10 Silexium ---------------------------------------------------------------------------------------------------
LOG_ENTRIES = 2**48
LOG_PROOF_HASHES = 64  # in one proof, the roots counted
TSA_REQUEST_BYTES = 4 * 2**10  # read by the embedded authority; ours have about 110
TSA_RESPONSE_BYTES = 32 * 2**10
TSA_CERTIFICATES = 8
TRUSTED_TSAS = 32
STAMP_JOBS_AT_ONCE = 64  # due jobs of each service that one step of the queue takes on
OTS_PROMISE_SECONDS = 2 * 24 * 3600  # until a calendar that has not kept its promise is asked for a new one
OTS_LAG_SECONDS = 7 * 24 * 3600  # from the stamp to the block, by default
BLOCK_TIME_SKEW_SECONDS = 7200  # by which a block's time may be off (Bitcoin's own rule)
OTS_BYTES = 16 * 2**10
OTS_OPERATIONS = 512  # attestations counted
OTS_MESSAGE_BYTES = 4096
OTS_ATTESTATION_BYTES = 8192
OTS_URI_BYTES = 1000
BITCOIN_HEIGHT = 2**31 - 1
HEADER_FIRST_RUN = 50_000  # headers up to a pinned one, where a store begins
BITCOIN_HEADERS = 2**21  # taken at one time; 160 MiB, twice what there is in 2026
LOG_TRAIL = 64  # heads remembered besides the largest
LOG_MEMORY_BYTES = 128 * 2**10
CLOCK_SKEW_SECONDS = 300
KEY_NAME_CHARS = 128  # a log's origin, a witness's name
NOTE_BYTES = 16 * 2**10
NOTE_SIGNATURES = 32
NOTE_SIGNATURE_BYTES = 4096  # of other types: an ML-DSA-44 signature has 2420
WITNESSES = 32
ADD_CHECKPOINT_BYTES = 20 * 2**10  # what a log asks of a witness: a proof and a note
QUORUM_DEPTH = 3
REPORT_CHARS = 300  # of one piece of evidence in a report of checks
POLICY_ITEMS = 4096  # of one list in a policy
LOG_ENTRY_BYTES = 16 * 2**10
RELEASE_MANIFEST_BYTES = 256 * 2**10
RELEASE_SHEET_BYTES = 256 * 2**10  # release.toml
INSTALL_REQUEST_BYTES = 8 * 2**10
INSTALL_ANSWER_BYTES = 2 * BUNDLE_BYTES
ANSWER_CACHE_BYTES = 32 * 2**20  # of answers under one head
BUNDLE_HEADERS = 1000  # block headers that a server puts into a bundle, 80 kB
ENTRIES_NOTED_AT_ONCE = 20_000  # that somebody else has appended; some 0.1 s of one transaction
PUBLISHED_AT_ONCE = 256  # releases that one step of a server's publication takes on
RELEASE_ARTIFACTS = 64  # of one release, the source counted
URL_CHARS = 2048
STAMPS_PER_KIND = 8  # RFC 3161 responses of one attestation, and as many OpenTimestamps proofs
TILE_WIDTH = 256  # hashes; also entries per bundle
TILE_PATH_CHARS = 64
SERVERS_OF_A_DATABASE = 8  # libreseed-silexium serve, at once
LOG_CACHED_TILES = 512  # 9 KB each, for each of a few sizes
LOG_FILE_BYTES = TILE_WIDTH * (LOG_ENTRY_BYTES + 2)  # a bundle of entries, the largest file of a log's layout
WATCHED_PACKAGES = 1024  # that one monitor looks for
WATCHED_RELEASES = 100_000  # of them all, remembered by it
WATCH_BYTES = 16 * 2**20  # of what it remembers
DATABASE_THREADS = 4  # that work on one database at once
SHARE_SECONDS = 5  # for peers to take repaired pieces after an installation
SALVAGE_CHUNKS = 2048  # single chunks asked for at once, 10 MiB
SALVAGE_ADDRESSES = 512  # called for one batch of chunks; most of them may be made up
SALVAGE_DIALS = 64  # called at once
SALVAGE_PEERS = 4  # asked at once
SALVAGE_BATCH_CHUNKS = 256  # asked of one peer before looking what the others have found
SALVAGE_BAD_CHUNKS = 256  # from one peer, without a good one among them
SALVAGE_ATTEMPTS = 3  # without any answer, of one address and of all together
READMISSIONS = 2  # of one banned peer; what is left then is asked for chunk by chunk
READMISSION_BYTES = 32 * 2**20  # of good pieces since the first one, for the second
SHARE_PEERS = 16  # whose pieces are shared out, beside mirrors
SHARE_FIRST_BYTES = 512 * 2**10  # left to each peer that has shown nothing yet, beside mirrors; see _target
SHARE_BYTES = 256 * 2**20  # left to the swarm at one time, beside mirrors
MIRRORS = 16  # named for one resolve
MIRROR_CONNECTIONS = 4  # at once to one mirror that has given nothing wrong
MIRROR_THREADS = 16  # that receive from mirrors at once, with 2 MiB each
MIRROR_FIRST_CHUNKS = 4  # of the first request; doubled while everything verifies
MIRROR_WHOLE_BYTES = 8 * 2**20  # of a file that a server without byte ranges may send whole
MIRROR_WHOLES_BYTES = 64 * 2**20  # of such files, in memory at once
MIRROR_ASK_CHUNKS = 819  # of one request, 4 MiB
MIRROR_ASK_ALONE_CHUNKS = 6554  # of a large file, where one mirror is all there is, 32 MiB
MIRROR_QUICK_SECONDS = 0.01  # a request that is over sooner costs more than it brings: the next one is larger
MIRROR_FAST_RATE = 50_000_000  # bytes a second over one connection, of which a second one is enough
MIRROR_TRIED_CHUNKS = 1024  # good ones without a wrong one, after which answers are judged in fewer portions
MIRROR_BAD_RUN = 4  # wrong chunks one after another, after which the rest of an answer is not read
MIRROR_BAD_CHUNKS = 8  # without a good one
MIRROR_BAD_CHUNKS_MOST = 256  # where nine of ten are wrong
MIRROR_WASTE_SHARE = 0.02  # of the .tgz; then a damaged mirror is asked only for what nobody better has
MIRROR_HOLDS = 0.93  # of what it was asked for lately; one that gives less takes nothing that peers offer
MIRROR_TRIES = 2  # of one that gave nothing right lately, before all that peers offer is left to them
MIX_SECONDS = 0.02  # in which swarm and mirrors keep what was shared out among them
MIRROR_SAMPLE_BYTES = 64  # known ones, next to a chunk's missing ones, that a mirror which sends junk is tried with
MIRROR_STRETCHES = 64  # looked at to find the next place to ask a damaged mirror for
MIRROR_STRIKES = 3  # faults in a row without a good chunk
MIRROR_REFUSALS = 16  # "not here" in a row without a good chunk
MIRROR_PAUSES = 6  # in a row that a mirror may ask for
MIRROR_REST_SECONDS = 0.25  # after a fault, doubled with each in a row
MIRROR_PAUSE_SECONDS = 10  # that a mirror may ask for, at once
MIRROR_MAP_SECONDS = 1.0  # for mirrors to give the chunk map, before peers are asked for it, too
MIRROR_ROB_SECONDS = 1.0  # after which others may finish a slow request
MIRROR_ROBBERIES = 4  # of one mirror, then it is too slow
