//! Every bound on what comes from outside, with its name and unit. Nothing else in the program invents one.

use std::time::Duration;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

// ---- JSON ----
/// Nesting of arrays and objects in any JSON that is parsed.
pub const JSON_DEPTH_MAX: usize = 64;
/// Tokens in one JSON text; bounds the memory of the tape.
pub const JSON_TOKENS_MAX: usize = 1 << 20;

// ---- Documents ----
/// A signed document, encoded.
pub const DOCUMENT_BYTES_MAX: usize = 256 * KIB;
/// A register may hold many members.
pub const REGISTER_BYTES_MAX: usize = 16 * MIB;
/// A root document.
pub const ROOT_BYTES_MAX: usize = 64 * KIB;
/// A checkpoint note with all its signatures.
pub const CHECKPOINT_BYTES_MAX: usize = 16 * KIB;
/// Signature lines in one note.
pub const NOTE_SIGNATURES_MAX: usize = 100;
/// Members of one register.
pub const REGISTER_MEMBERS_MAX: usize = 10_000;

// ---- Datasets ----
/// One record's text (one line of NDJSON, one row of CSV).
pub const RECORD_BYTES_MAX: usize = 4 * MIB;
/// Text that one frame aims at; a longer record gets a frame of its own.
pub const FRAME_TEXT_BYTES: usize = MIB;
/// Text that a frame may hold: what is left below the aim, and one record.
pub const FRAME_TEXT_BYTES_MAX: usize = FRAME_TEXT_BYTES + RECORD_BYTES_MAX + KIB;
/// Frames in one container; with 1 MiB of text each, a terabyte.
pub const FRAMES_MAX: usize = 1 << 20;
/// Sealed container.
pub const CONTAINER_BYTES_MAX: u64 = 1 << 40;
/// Invalid records that are described one by one; the rest is counted.
pub const VIOLATIONS_REPORTED_MAX: usize = 100;
/// Violations described for one record.
pub const VIOLATIONS_RECORD_MAX: usize = 8;
/// Columns of a CSV file.
pub const CSV_COLUMNS_MAX: usize = 4_096;
/// A JSON Schema.
pub const SCHEMA_BYTES_MAX: usize = 512 * KIB;
/// A policy.
pub const POLICY_BYTES_MAX: usize = 64 * KIB;
/// Constraints in one policy.
pub const POLICY_CONSTRAINTS_MAX: usize = 64;
/// Values in one right operand.
pub const POLICY_OPERANDS_MAX: usize = 1_000;

// ---- Names that people give ----
/// Title, enterprise, person, reason.
pub const TEXT_CHARS_MAX: usize = 200;
/// A description.
pub const DESCRIPTION_CHARS_MAX: usize = 4_000;

// ---- HTTP ----
/// A request body on the peer listener.
pub const PEER_BODY_BYTES_MAX: usize = 512 * KIB;
/// A request body on the management listener, publication aside.
pub const MANAGEMENT_BODY_BYTES_MAX: usize = MIB;
/// The metadata part of a publication.
pub const PUBLICATION_METADATA_BYTES_MAX: usize = 128 * KIB;
/// An answer read from a peer, data aside.
pub const PEER_ANSWER_BYTES_MAX: usize = 8 * MIB;
/// Connections of one listener that the system holds until the node takes them (listen(2), backlog).
pub const CONNECTIONS_WAITING_MAX: u32 = 1_024;
/// Connections on one listener that have not said anything yet: they cost little, and must not keep others out.
pub const CONNECTIONS_SILENT_MAX: usize = 16_384;
/// Open connections on one listener that have said something.
pub const CONNECTIONS_MAX: usize = 4_096;
/// When less than a quarter of the places is free, connections without a request are asked to make room this often.
pub const IDLE_SHED_INTERVAL: Duration = Duration::from_millis(500);
/// Open connections with one client key.
pub const CONNECTIONS_PER_MEMBER_MAX: usize = 256;
/// Requests in flight on one listener, from head to the last byte of the answer.
pub const REQUESTS_IN_FLIGHT_MAX: usize = 1_024;
/// Requests in flight of one caller on the peer listener.
pub const REQUESTS_PER_MEMBER_MAX: usize = 128;
/// Requests in flight of all callers together whose key is no member's.
pub const REQUESTS_UNAUTHENTICATED_MAX: usize = 64;
/// What a caller that was turned away is told to wait.
pub const RETRY_AFTER_SECONDS: u32 = 1;
/// Whoever reads an answer must take [`WRITE_PROGRESS_BYTES_MIN`] in this time.
pub const WRITE_PROGRESS_TIME: Duration = Duration::from_secs(30);
/// Bytes that a reader must take in one [`WRITE_PROGRESS_TIME`].
pub const WRITE_PROGRESS_BYTES_MIN: usize = 64 * KIB;
/// Reads of registers, checkpoints and tiles at once by whoever asks: strangers must not take all readers of the database.
pub const OPEN_READS_MAX: usize = 2;
/// Offered registers that are read at the same time.
pub const REGISTER_READS_MAX: usize = 2;
/// Waiting for a place among the open reads.
pub const OPEN_READ_WAIT_MAX: Duration = Duration::from_secs(5);
/// Bytes of a container that are read from disk at once for one download.
pub const SERVE_CHUNK_BYTES: u64 = 256 * KIB as u64;
/// Open connections of one address on the peer listener that no member's key was proven for.
pub const CONNECTIONS_PER_ADDRESS_MAX: usize = 1_024;
/// Until a connection says something, until there is a place for it, and for its TLS handshake: each.
pub const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(10);
/// Request head, from the first byte of the connection or the end of the last answer.
pub const HEADER_TIME_MAX: Duration = Duration::from_secs(30);
/// A request's body, but for publications, and the work on it.
pub const REQUEST_TIME_MAX: Duration = Duration::from_secs(60);
/// An idempotency key.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 128;
/// For how long the answer to a creation with an idempotency key is remembered.
pub const IDEMPOTENCY_KEY_LIFE_MS: i64 = 7 * 86_400_000;
/// Graceful shutdown: requests in flight get this long.
pub const DRAIN_TIME_MAX: Duration = Duration::from_secs(10);
/// Connecting to a peer.
pub const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);
/// A peer's answer to a message, first byte to last.
pub const PEER_ANSWER_TIME_MAX: Duration = Duration::from_secs(30);
/// Silence inside a stream of data.
pub const STREAM_IDLE_TIME_MAX: Duration = Duration::from_secs(30);
/// One range of a download, first byte to last; what came is kept, and the rest is asked for again.
pub const RANGE_TIME_MAX: Duration = Duration::from_secs(600);
/// Deliveries from one provider at once: one that is slow must not hold up those of others.
pub const DELIVERIES_PER_PROVIDER_MAX: usize = 8;
/// Deliveries that are verified at once: each takes all cores.
pub const VERIFICATIONS_MAX: usize = 2;
/// Publications that are sealed at once: each takes all cores.
pub const PUBLICATIONS_MAX: usize = 4;
/// One plain download from another connector, first byte to last.
pub const PULL_TIME_MAX: Duration = Duration::from_secs(6 * 3_600);
/// Plain downloads that are served at once: each frame is opened anew.
pub const PULLS_MAX: usize = 16;
/// Of one member.
pub const PULLS_PER_MEMBER_MAX: usize = 4;
/// Waiting for a place among them.
pub const PULL_WAIT_MAX: Duration = Duration::from_secs(10);
/// Datasets for which it is remembered where each frame's text ends.
pub const PULL_INDEXES_MAX: usize = 16;
/// Members that are dialled back at once, for their own diagnosis.
pub const REACH_CHECKS_MAX: usize = 4;
/// Silence inside an upload of records.
pub const UPLOAD_IDLE_TIME_MAX: Duration = Duration::from_secs(60);
/// Long poll on the management API.
pub const WAIT_TIME_MAX: Duration = Duration::from_secs(60);
/// Entries of one page in any listing.
pub const PAGE_ROWS_MAX: usize = 1_000;
/// Bytes asked for in one range of a download.
pub const DOWNLOAD_RANGE_BYTES: u64 = 8 * MIB as u64;

// ---- Processes ----
/// Messages of one process that are remembered to recognise repetitions.
pub const PROCESS_MESSAGES_MAX: usize = 64;
/// Moves of one negotiation: whoever offers and counters without end is refused.
pub const NEGOTIATION_TRANSITIONS_MAX: u64 = 64;
/// Negotiations that one member may have open at once.
pub const OPEN_PROCESSES_PER_MEMBER_MAX: u64 = 1_000;
/// Log entries that one member may cause in a minute, unless the configuration says otherwise; more is refused and counted.
pub const WRITES_PER_MEMBER_PER_MINUTE: u32 = 12_000;
/// Jobs that the writer commits in one transaction.
pub const COMMIT_BATCH_MAX: usize = 512;
/// Jobs waiting for the writer.
pub const COMMIT_QUEUE_MAX: usize = 4_096;
/// Attempts to decide anew after a conflict.
pub const CONFLICT_RETRIES_MAX: usize = 8;
/// Deliveries of one outgoing message before it is given up: about two weeks at the longest pause.
pub const OUTBOX_ATTEMPTS_MAX: u32 = 4_032;
/// Messages to one member that are under way at once: one that hangs must not hold up the others.
pub const OUTBOX_PER_MEMBER_MAX: usize = 8;
/// Text of a caller in one log entry.
pub const LOGGED_TEXT_CHARS_MAX: usize = 500;
/// A claim or receipt, encoded: each is in a log entry for ever.
pub const SMALL_DOCUMENT_BYTES_MAX: usize = 8 * KIB;
/// Datasets of one peer's catalog that are shown at once.
pub const CATALOG_DATASETS_MAX: usize = 10_000;
/// What the search index keeps of one dataset; of one that says more, nothing is kept.
pub const INDEXED_DATASET_BYTES_MAX: usize = 64 * KIB;
/// What the search index holds of one peer's catalog.
pub const INDEXED_BYTES_PER_PEER_MAX: usize = 256 * MIB;
/// Datasets of one peer that the search index holds.
pub const INDEXED_PER_PEER_MAX: usize = 100_000;
/// What a search counts, and ranks; more is said to be more.
pub const SEARCH_COUNTED_MAX: usize = 5_000;
/// Values of one facet that are told.
pub const FACET_VALUES_MAX: usize = 50;
/// What a person types into a search.
pub const SEARCH_CHARS_MAX: usize = 200;
/// Pages of a search reach so far.
pub const SEARCH_OFFSET_MAX: usize = 2_000;
/// Approved sample records of one dataset.
pub const SAMPLES_MAX: usize = 20;
/// All of them together.
pub const SAMPLES_BYTES_MAX: usize = 32 * KIB;
/// Datasets on one page of the catalog.
pub const CATALOG_PAGE_DATASETS: usize = 100;
/// Datasets that are looked at for one page: a filter that few pass gets a short page, and a link to the next.
pub const CATALOG_SCANNED_MAX: usize = 2_000;
/// Pages that are read of a peer's catalog.
pub const CATALOG_PAGES_MAX: usize = 2_000;
/// Conditions in one filter.
pub const FILTER_CONDITIONS_MAX: usize = 16;
/// Reading the peers' catalogs anew.
pub const CATALOG_REFRESH_INTERVAL: Duration = Duration::from_secs(60);
/// Reading the whole of a peer's catalog, not what changed alone.
pub const CATALOG_FULL_REFRESH_MS: i64 = 24 * 3_600_000;
/// Peers' catalogs that are read at once.
pub const CATALOG_READS_MAX: usize = 4;
/// Reading one peer's catalog.
pub const CATALOG_READ_TIME_MAX: Duration = Duration::from_secs(300);
/// Asking one peer for newer registers, after it had none that could be taken.
pub const CATCH_UP_PAUSE_MS: i64 = 60_000;
/// Fetching one register.
pub const CATCH_UP_TIME_MAX: Duration = Duration::from_secs(5);
/// Root documents that are fetched on one occasion; there is one in years.
pub const ROOTS_PER_FETCH_MAX: usize = 16;
/// Refused registers that are remembered, so that each is logged once.
pub const REFUSED_REGISTERS_MAX: usize = 1_000;
/// Longest pause between two deliveries of one message.
pub const BACKOFF_MAX: Duration = Duration::from_secs(300);
/// Read connections to the database.
pub const READERS_MAX: usize = 4;

// ---- What is warned of ----
/// Days before the end of a certificate, key or register at which it is said.
pub const EXPIRY_WARNED_DAYS: [i64; 4] = [30, 14, 7, 1];
/// Days before the end of the last administrator's token at which it is said.
pub const ADMIN_TOKEN_WARNED_DAYS: i64 = 7;
/// How often it is looked.
pub const EXPIRY_CHECK_INTERVAL: Duration = Duration::from_secs(3_600);
/// A message that waits longer is warned of.
pub const OUTBOX_AGE_WARNED_SECONDS: i64 = 600;
/// Entries without a checkpoint for longer are warned of.
pub const LOG_LAG_WARNED_SECONDS: i64 = 60;
/// Less free disk than one part in so many is warned of.
pub const DISK_WARNED_FRACTION: u64 = 20;

// ---- Time ----
/// Clock skew between two parties of a signed document.
pub const SKEW_MS_MAX: i64 = 60_000;
/// Life of a key request.
pub const KEY_REQUEST_LIFE_MS: i64 = 10 * 60_000;
/// Life of a bearer token between connectors.
pub const BEARER_LIFE_SECONDS_MAX: i64 = 300;
/// Life of a transfer token; a longer transfer asks for a new start.
pub const TRANSFER_TOKEN_LIFE_MS: i64 = 24 * 3_600_000;
/// Checkpoints are published at most this often.
pub const CHECKPOINT_INTERVAL_MS: i64 = 10_000;
/// Counted refusals are flushed into one entry this long after the first.
pub const REFUSAL_COUNT_INTERVAL: Duration = Duration::from_secs(60);
/// Register refresh from the alliance and peers.
pub const REGISTER_REFRESH_INTERVAL: Duration = Duration::from_secs(60);
/// Asking the peers at start what they saw of this node's log; those that do not answer hold nothing up.
pub const LOG_COMPARE_AT_START_MAX: Duration = Duration::from_secs(2);
/// Asking them again while a restored node waits for all of them.
pub const LOG_COMPARE_RESTORED_INTERVAL: Duration = Duration::from_secs(5);
/// Life of a register.
pub const REGISTER_LIFE_MS: i64 = 14 * 86_400_000;
/// Age of a claim when it arrives: its message may have waited in the consumer's outbox.
pub const CLAIM_AGE_MS_MAX: i64 = 86_400_000;
/// Life of an agreement whose policy has no end.
pub const AGREEMENT_LIFE_MS: i64 = 365 * 86_400_000;
