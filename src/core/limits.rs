//! All limits on external input and on what one caller can use, with their units. No other module defines any.

use std::time::Duration;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

// ---- JSON ----
/// Nesting depth of arrays and objects in any parsed JSON.
pub const JSON_DEPTH_MAX: usize = 64;
/// Tokens in one JSON text; bounds the memory used by the tape.
pub const JSON_TOKENS_MAX: usize = 1 << 20;

// ---- Documents ----
/// Encoded size of a signed document.
pub const DOCUMENT_BYTES_MAX: usize = 256 * KIB;
/// Encoded size of a register, which may hold many members.
pub const REGISTER_BYTES_MAX: usize = 16 * MIB;
/// Encoded size of a root document.
pub const ROOT_BYTES_MAX: usize = 64 * KIB;
/// Size of a checkpoint note with all signatures.
pub const CHECKPOINT_BYTES_MAX: usize = 16 * KIB;
/// Signature lines in one checkpoint note.
pub const NOTE_SIGNATURES_MAX: usize = 100;
/// Length of an endpoint, both as given and in normal form.
pub const ENDPOINT_BYTES_MAX: usize = 500;
/// Largest count of releases that a policy can state.
pub const POLICY_COUNT_MAX: u64 = 1_000_000_000;
/// Members in one register.
pub const REGISTER_MEMBERS_MAX: usize = 10_000;

// ---- Datasets ----
/// Text of one record (one line of NDJSON, one row of CSV).
pub const RECORD_BYTES_MAX: usize = 4 * MIB;
/// Target size of a frame's text; a longer record gets its own frame.
pub const FRAME_TEXT_BYTES: usize = MIB;
/// Maximum size of a frame's text: a frame just below the target size, plus one record.
pub const FRAME_TEXT_BYTES_MAX: usize = FRAME_TEXT_BYTES + RECORD_BYTES_MAX + KIB;
/// Frames in one container: one terabyte at 1 MiB of text each.
pub const FRAMES_MAX: usize = 1 << 20;
/// Files in one dataset.
pub const FILES_MAX: usize = 100_000;
/// Path of a file in a dataset.
pub const FILE_PATH_BYTES_MAX: usize = 400;
/// Size of a sealed container.
pub const CONTAINER_BYTES_MAX: u64 = 1 << 40;
/// Size of the list of files in a backup.
pub const BACKUP_LIST_BYTES_MAX: u64 = 64 * MIB as u64;
/// Faults of a verified log described individually; further ones are only counted.
pub const FAULTS_REPORTED_MAX: usize = 100;
/// Invalid records described individually; further ones are only counted.
pub const VIOLATIONS_REPORTED_MAX: usize = 100;
/// Fields and rules of which violations are counted in one file.
pub const VIOLATION_GROUPS_MAX: usize = 200;
/// Lines stated for the violations of one rule by one field.
pub const VIOLATION_LINES_MAX: usize = 5;
/// Violations described for one record.
pub const VIOLATIONS_RECORD_MAX: usize = 8;
/// Columns of a table.
pub const CSV_COLUMNS_MAX: usize = 4_096;
/// Size of a mapping, as a file and in canonical form.
pub const MAPPING_BYTES_MAX: usize = 64 * KIB;
/// Fields that a mapping fills.
pub const MAPPING_FIELDS_MAX: usize = 500;
/// Conditions by which records are chosen.
pub const CONDITIONS_MAX: usize = 20;
/// Characters (UTF-16) in a cell of a workbook.
pub const SHEET_CELL_CHARS_MAX: usize = 32_767;
/// Records that a row group of a written Parquet file has at most.
pub const ROW_GROUP_ROWS_MAX: usize = 1 << 16;
/// Bytes of a row group before it is compressed.
pub const ROW_GROUP_BYTES_MAX: usize = 16 * MIB;
/// Characters shown of a value in an error.
pub const SHOWN_CHARS_MAX: usize = 40;
/// Processor time of the jq programs of a mapping for one record; a second more may pass.
pub const JQ_SECONDS_MAX: u64 = 2;
/// Memory of a process that runs jq programs, with the program itself.
pub const JQ_MEMORY_BYTES_MAX: u64 = 512 * MIB as u64;
/// Records after whose jq programs had to be stopped no more are run.
pub const JQ_PROCESSES_ENDED_MAX: usize = 3;
/// Columns, members and pointers that the rules of a mapping read together.
pub const MAPPING_SOURCES_MAX: usize = 1_000;
/// Columns that one rule reads.
pub const RULE_COLUMNS_MAX: usize = 64;
/// Formats of dates in one rule.
pub const RULE_DATES_MAX: usize = 16;
/// Units, or markers of missing values, in one rule.
pub const RULE_UNITS_MAX: usize = 64;
/// Text that a mapping makes of one chunk of a file, which is held until it is compressed.
pub const MAPPED_CHUNK_BYTES_MAX: usize = 64 * MIB;
/// Processor time of the jq programs of one process, besides [`JQ_MS_PER_RECORD`].
pub const JQ_SECONDS_TOTAL_MAX: u64 = 10;
/// Processor time of the jq programs of one process for each record that it has got, milliseconds.
pub const JQ_MS_PER_RECORD: u64 = 1;
/// Length of a jq program in a mapping.
pub const JQ_PROGRAM_BYTES_MAX: usize = 4 * KIB;
/// The last line or row in which the header of a table may be.
pub const HEADER_LINE_MAX: u32 = 50;
/// Texts that stand for a missing value.
pub const MISSING_MARKERS_MAX: usize = 32;
/// Rows that are looked at to find out how a table is written.
pub const SAMPLE_ROWS_MAX: usize = 20_000;
/// Bytes of text, likewise.
pub const SAMPLE_BYTES_MAX: usize = MIB;
/// A zip archive with a table.
pub const ZIP_BYTES_MAX: u64 = 1 << 30;
/// Entries of a zip archive.
pub const ZIP_ENTRIES_MAX: usize = 10_000;
/// A workbook whose rows are read one by one.
pub const WORKBOOK_BYTES_MAX: u64 = 512 << 20;
/// A workbook of Excel 97, which is read as a whole; it has at most 65,536 rows of 256 columns.
pub const XLS_BYTES_MAX: u64 = 64 << 20;
/// A Parquet or Arrow file.
pub const COLUMNAR_BYTES_MAX: u64 = 16 << 30;
/// The head of a message in an Arrow file.
pub const ARROW_MESSAGE_BYTES_MAX: u64 = 16 << 20;
/// A batch of rows in an Arrow file, and all its dictionaries, unpacked: each is read as a whole.
pub const ARROW_BATCH_BYTES_MAX: u64 = 256 << 20;
/// The XML of a sheet, unpacked.
pub const SHEET_BYTES_MAX: u64 = 8 << 30;
/// Rows of a sheet.
pub const SHEET_ROWS_MAX: u64 = 1 << 20;
/// Merged cells of a sheet.
pub const SHEET_MERGED_MAX: usize = 100_000;
/// What of a workbook is held in memory: its texts.
pub const WORKBOOK_UNPACKED_BYTES_MAX: u64 = 512 << 20;
/// Unpacked bytes that any compressed file may have.
pub const UNPACKED_BYTES_SMALL: u64 = 64 << 20;
/// Beyond, at most this many times the compressed ones.
pub const UNPACKED_RATIO_MAX: u64 = 200;
/// Keys of records that a publication or a verification holds in memory, 24 bytes each; more go to temporary files.
pub const KEYS_IN_MEMORY_MAX: usize = 1 << 20;
/// Size of a key in a temporary file.
pub const KEY_BYTES: u64 = 24;
/// Pairs of parts that are compared to prove that a schema is compatible.
pub const COMPATIBILITY_STEPS_MAX: usize = 200_000;
/// Checks that a schema may ask for on the way to one value of a record.
pub const SCHEMA_COST_MAX: u64 = 10_000;
/// Additions to find that out.
pub const SCHEMA_STEPS_MAX: usize = 5_000_000;
/// Size of a JSON Schema.
pub const SCHEMA_BYTES_MAX: usize = 512 * KIB;
/// Characters of a schema's `$id`.
pub const SCHEMA_ID_CHARS_MAX: usize = 200;
/// Schemas in one register.
pub const SCHEMAS_LISTED_MAX: usize = 1_000;
/// Schemas of its own that a member publishes.
pub const SCHEMAS_OWN_MAX: usize = 1_000;
/// Schemas of the register and of peers that a node keeps.
pub const SCHEMAS_KEPT_MAX: usize = 10_000;
/// Compiled schemas in memory, besides the built-in ones.
pub const SCHEMAS_COMPILED_MAX: usize = 64;
/// Fields of a file from which a schema is inferred.
pub const INFERRED_FIELDS_MAX: usize = 2_000;
/// Members of an object within a field that are told apart.
pub const INFERRED_MEMBERS_MAX: usize = 100;
/// Levels within a field that are described.
pub const INFERRED_DEPTH_MAX: usize = 8;
/// Different values, of all fields together, by which keys are known.
pub const INFERRED_KEYS_MAX: usize = 10_000_000;
/// Invalid records that a publication may leave out.
pub const SKIPPED_MAX: usize = 100_000;
/// Fields of a dataset whose quality is stated.
pub const QUALITY_FIELDS_MAX: usize = 64;
/// Names that an error lists.
pub const NAMES_IN_ERRORS_MAX: usize = 30;
/// Members that are asked for a missing schema.
pub const SCHEMA_SOURCES_MAX: usize = 5;
/// Size of a policy.
pub const POLICY_BYTES_MAX: usize = 64 * KIB;
/// Constraints in one policy.
pub const POLICY_CONSTRAINTS_MAX: usize = 64;
/// Values in one right operand.
pub const POLICY_OPERANDS_MAX: usize = 1_000;

// ---- Texts entered by people ----
/// Characters in a title, enterprise, person or reason.
pub const TEXT_CHARS_MAX: usize = 200;
/// Characters in a description.
pub const DESCRIPTION_CHARS_MAX: usize = 4_000;

// ---- HTTP ----
/// Request body on the peer listener.
pub const PEER_BODY_BYTES_MAX: usize = 512 * KIB;
/// Request body on the management listener, except for publications.
pub const MANAGEMENT_BODY_BYTES_MAX: usize = MIB;
/// Metadata part of a publication.
pub const PUBLICATION_METADATA_BYTES_MAX: usize = 128 * KIB;
/// Response body read from a peer, except for dataset bytes.
pub const PEER_ANSWER_BYTES_MAX: usize = 8 * MIB;
/// Backlog of connections that the kernel holds for one listener (listen(2)).
pub const CONNECTIONS_WAITING_MAX: u32 = 1_024;
/// Open connections on one listener that have not sent a byte yet; they are cheap and must not block others.
pub const CONNECTIONS_SILENT_MAX: usize = 16_384;
/// Open connections on one listener that have sent at least one byte.
pub const CONNECTIONS_MAX: usize = 4_096;
/// Minimum interval between rounds of closing idle connections, when less than a quarter of the permits is free.
pub const IDLE_SHED_INTERVAL: Duration = Duration::from_millis(500);
/// Open connections per client key.
pub const CONNECTIONS_PER_MEMBER_MAX: usize = 256;
/// Requests in flight on one listener, from the request head to the last byte of the response.
pub const REQUESTS_IN_FLIGHT_MAX: usize = 1_024;
/// Requests in flight for the health of the node, which need no other permit.
pub const REQUESTS_ALWAYS_MAX: usize = 16;
/// Requests in flight with one token.
pub const REQUESTS_PER_TOKEN_MAX: usize = 256;
/// Requests with one token that wait for a change.
pub const WAITS_PER_TOKEN_MAX: usize = 64;
/// Longest pause between two looks at a request that is waited for.
pub const WAIT_PAUSE_MAX: Duration = Duration::from_secs(1);
/// Requests in flight per caller on the peer listener.
pub const REQUESTS_PER_MEMBER_MAX: usize = 128;
/// Requests in flight of all unauthenticated callers together.
pub const REQUESTS_UNAUTHENTICATED_MAX: usize = 64;
/// `Retry-After` of rejected requests.
pub const RETRY_AFTER_SECONDS: u32 = 1;
/// Time in which the reader of a response must accept [`WRITE_PROGRESS_BYTES_MIN`].
pub const WRITE_PROGRESS_TIME: Duration = Duration::from_secs(30);
/// Bytes that the reader of a response must accept per [`WRITE_PROGRESS_TIME`].
pub const WRITE_PROGRESS_BYTES_MIN: usize = 64 * KIB;
/// Concurrent unauthenticated reads of registers, checkpoints and tiles; they must not occupy all database readers.
pub const OPEN_READS_MAX: usize = 2;
/// Offered registers that are read concurrently.
pub const REGISTER_READS_MAX: usize = 2;
/// Waiting time for an [`OPEN_READS_MAX`] permit.
pub const OPEN_READ_WAIT_MAX: Duration = Duration::from_secs(5);
/// Bytes of a container read from disk per step of a download.
pub const SERVE_CHUNK_BYTES: u64 = 256 * KIB as u64;
/// Open connections per address on the peer listener without a member's key.
pub const CONNECTIONS_PER_ADDRESS_MAX: usize = 1_024;
/// Time limit, each, for the first byte of a connection, for its permit and for its TLS handshake.
pub const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(10);
/// Time limit for a request head, from the start of the connection or the end of the last response.
pub const HEADER_TIME_MAX: Duration = Duration::from_secs(30);
/// Time limit for a request, including its body, except for publications.
pub const REQUEST_TIME_MAX: Duration = Duration::from_secs(60);
/// Length of an idempotency key.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 128;
/// Time for which the response to a creation with an idempotency key is kept.
pub const IDEMPOTENCY_KEY_LIFE_MS: i64 = 7 * 86_400_000;
/// Time that requests in flight get at shutdown.
pub const DRAIN_TIME_MAX: Duration = Duration::from_secs(10);
/// Time limit for connecting to a peer.
pub const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);
/// Time limit for a peer's response to a message, from first to last byte.
pub const PEER_ANSWER_TIME_MAX: Duration = Duration::from_secs(30);
/// Idle time in a stream of dataset bytes.
pub const STREAM_IDLE_TIME_MAX: Duration = Duration::from_secs(30);
/// Time limit for one range of a download; received bytes are kept, and the remaining range is requested again.
pub const RANGE_TIME_MAX: Duration = Duration::from_secs(600);
/// Concurrent deliveries per provider, so that a slow provider does not delay deliveries from others.
pub const DELIVERIES_PER_PROVIDER_MAX: usize = 8;
/// Concurrent verifications of deliveries; each uses all cores.
pub const VERIFICATIONS_MAX: usize = 2;
/// Concurrent publications being sealed; each uses all cores. One that waits for data does not count.
pub const PUBLICATIONS_MAX: usize = 4;
/// Concurrent uploads of publications.
pub const UPLOADS_MAX: usize = 16;
/// Concurrent uploads of publications with one token.
pub const UPLOADS_PER_TOKEN_MAX: usize = 4;
/// Waiting time for the place of an upload.
pub const UPLOAD_WAIT_MAX: Duration = Duration::from_secs(10);
/// Time of waiting for an upload in which [`UPLOAD_PROGRESS_BYTES_MIN`] must arrive.
pub const UPLOAD_PROGRESS_TIME: Duration = Duration::from_secs(30);
/// Bytes of an upload that must arrive per [`UPLOAD_PROGRESS_TIME`].
pub const UPLOAD_PROGRESS_BYTES_MIN: usize = 64 * KIB;
/// Time limit for one plain download from another connector.
pub const PULL_TIME_MAX: Duration = Duration::from_secs(6 * 3_600);
/// Concurrent plain downloads served; each decrypts its frames again.
pub const PULLS_MAX: usize = 16;
/// Concurrent plain downloads served per member.
pub const PULLS_PER_MEMBER_MAX: usize = 4;
/// Waiting time for a plain download permit.
pub const PULL_WAIT_MAX: Duration = Duration::from_secs(10);
/// Datasets whose frame boundaries are cached.
pub const PULL_INDEXES_MAX: usize = 16;
/// Concurrent connections back to members for their diagnosis.
pub const REACH_CHECKS_MAX: usize = 4;
/// Idle time in an upload of records.
pub const UPLOAD_IDLE_TIME_MAX: Duration = Duration::from_secs(60);
/// Longest end of a log that no checkpoint covers, in the copy of a running node.
pub const UNCOVERED_MS_MAX: i64 = 5 * 60_000;
/// Alarms about peers' logs that the status shows.
pub const ALARMS_SHOWN_MAX: usize = 10;
/// Longest time for which the rest of a refused upload is read, so that its sender gets the response.
pub const LINGER_TIME_MAX: Duration = Duration::from_secs(20);
/// Largest such rest.
pub const LINGER_BYTES_MAX: usize = 256 * MIB;
/// Refused uploads whose rest is read at the same time.
pub const LINGERING_MAX: usize = 16;
/// Longest search for a dataset in another connector's catalog.
pub const LOOKUP_TIME_MAX: Duration = Duration::from_secs(60);
/// Duration of a long poll on the management API.
pub const WAIT_TIME_MAX: Duration = Duration::from_secs(60);
/// Rows per page of any listing.
pub const PAGE_ROWS_MAX: usize = 1_000;
/// Requests of an enterprise among which the newest version of a dataset is looked for.
pub const REQUESTS_LOOKED_AT_MAX: usize = 20_000;
/// Bytes requested per range of a download.
pub const DOWNLOAD_RANGE_BYTES: u64 = 8 * MIB as u64;

// ---- Processes ----
/// Messages per process remembered to recognise repetitions.
pub const PROCESS_MESSAGES_MAX: usize = 64;
/// Transitions of one negotiation; bounds endless counter-offers.
pub const NEGOTIATION_TRANSITIONS_MAX: u64 = 64;
/// Open negotiations and transfers per member.
pub const OPEN_PROCESSES_PER_MEMBER_MAX: u64 = 1_000;
/// Default limit of log entries that one member may cause per minute; further requests are refused and counted.
pub const WRITES_PER_MEMBER_PER_MINUTE: u32 = 3_000;
/// Default limit of what one member may cause to be stored per day, in MiB.
pub const STORED_MIB_PER_MEMBER_PER_DAY: u64 = 256;
/// What a log entry is charged besides the message that causes it.
pub const ENTRY_BYTES_CHARGED: u64 = 2 * KIB as u64;
/// Refusals of one kind, for one member and minute, with a log entry each; further ones are counted.
pub const REFUSALS_SINGLE_PER_MINUTE: u32 = 20;
/// Changes that the writer commits in one transaction.
pub const COMMIT_BATCH_MAX: usize = 512;
/// Changes waiting for the writer.
pub const COMMIT_QUEUE_MAX: usize = 4_096;
/// Attempts to decide again after a conflict.
pub const CONFLICT_RETRIES_MAX: usize = 8;
/// Delivery attempts per outgoing message: about two weeks at the longest interval.
pub const OUTBOX_ATTEMPTS_MAX: u32 = 4_032;
/// Conflicts with which a member may answer a message before it counts as refused: about a minute of attempts.
pub const OUTBOX_CONFLICTS_MAX: u32 = 8;
/// Concurrent deliveries of the outbox, each of a different process.
pub const OUTBOX_DELIVERIES_MAX: usize = 64;
/// Concurrent deliveries of messages per member, so that a hanging one does not delay the others.
pub const OUTBOX_PER_MEMBER_MAX: usize = 8;
/// Characters of a caller's text in one log entry.
pub const LOGGED_TEXT_CHARS_MAX: usize = 500;
/// Encoded size of a claim or receipt; each is kept in a log entry forever.
pub const SMALL_DOCUMENT_BYTES_MAX: usize = 8 * KIB;
/// Datasets of one peer's catalog shown at once.
pub const CATALOG_DATASETS_MAX: usize = 10_000;
/// Indexed bytes per dataset; larger datasets are not indexed.
pub const INDEXED_DATASET_BYTES_MAX: usize = 64 * KIB;
/// Indexed bytes per peer.
pub const INDEXED_BYTES_PER_PEER_MAX: usize = 256 * MIB;
/// Indexed datasets per peer.
pub const INDEXED_PER_PEER_MAX: usize = 100_000;
/// Search results counted and ranked; beyond that the count is reported as a lower bound.
pub const SEARCH_COUNTED_MAX: usize = 5_000;
/// Values returned per facet.
pub const FACET_VALUES_MAX: usize = 50;
/// Characters in a search query.
pub const SEARCH_CHARS_MAX: usize = 200;
/// Largest offset of a page of search results.
pub const SEARCH_OFFSET_MAX: usize = 2_000;
/// Sample records per dataset.
pub const SAMPLES_MAX: usize = 20;
/// Total size of a dataset's sample records.
pub const SAMPLES_BYTES_MAX: usize = 32 * KIB;
/// Datasets per page of the catalog.
pub const CATALOG_PAGE_DATASETS: usize = 100;
/// Datasets examined for one page: a selective filter yields a short page with a link to the next.
pub const CATALOG_SCANNED_MAX: usize = 2_000;
/// Audience keys looked up for one member. Further groups are ignored, which can only hide datasets.
pub const AUDIENCE_KEYS_MAX: usize = 100;
/// Pages read of one peer's catalog.
pub const CATALOG_PAGES_MAX: usize = 2_000;
/// Conditions in one catalog filter.
pub const FILTER_CONDITIONS_MAX: usize = 16;
/// Interval between incremental reads of the peers' catalogs.
pub const CATALOG_REFRESH_INTERVAL: Duration = Duration::from_secs(60);
/// Interval between full reads of a peer's catalog.
pub const CATALOG_FULL_REFRESH_MS: i64 = 24 * 3_600_000;
/// Concurrent reads of peers' catalogs.
pub const CATALOG_READS_MAX: usize = 4;
/// Time limit for reading one peer's catalog.
pub const CATALOG_READ_TIME_MAX: Duration = Duration::from_secs(300);
/// Pause before asking a peer for newer registers again, after it had none that could be installed.
pub const CATCH_UP_PAUSE_MS: i64 = 60_000;
/// Time limit for fetching one register.
pub const CATCH_UP_TIME_MAX: Duration = Duration::from_secs(5);
/// Root documents fetched at once; a new one is issued only every few years.
pub const ROOTS_PER_FETCH_MAX: usize = 16;
/// Refused registers remembered, so that each is logged once.
pub const REFUSED_REGISTERS_MAX: usize = 1_000;
/// Longest interval between two deliveries of one message.
pub const BACKOFF_MAX: Duration = Duration::from_secs(300);
/// Read connections to the database.
pub const READERS_MAX: usize = 4;

// ---- Warnings ----
/// Days before expiry of a certificate, key or register at which a warning is logged.
pub const EXPIRY_WARNED_DAYS: [i64; 4] = [30, 14, 7, 1];
/// Days before expiry of the last administrator's token at which a warning is logged.
pub const ADMIN_TOKEN_WARNED_DAYS: i64 = 7;
/// Interval between expiry checks.
pub const EXPIRY_CHECK_INTERVAL: Duration = Duration::from_secs(3_600);
/// Age of an undelivered message that causes a warning.
pub const OUTBOX_AGE_WARNED_SECONDS: i64 = 600;
/// Age of log entries without a checkpoint that causes a warning.
pub const LOG_LAG_WARNED_SECONDS: i64 = 60;
/// A warning is raised when less than one in this many parts of the disk is free.
pub const DISK_WARNED_FRACTION: u64 = 20;

// ---- Time ----
/// Clock skew between the parties of a signed document.
pub const SKEW_MS_MAX: i64 = 60_000;
/// Longest time between a decision and the commit of its log entry, for the verification of logs.
pub const DECISION_AGE_MS_MAX: i64 = 60_000;
/// Interval between two times of the node that are stored, so that a clock set back is noticed after a restart.
pub const CLOCK_STORED_INTERVAL: Duration = Duration::from_secs(60);
/// Validity of a key request.
pub const KEY_REQUEST_LIFE_MS: i64 = 10 * 60_000;
/// Validity of a bearer token between connectors.
pub const BEARER_LIFE_SECONDS_MAX: i64 = 300;
/// Validity of a transfer token; a longer transfer requests a new start.
pub const TRANSFER_TOKEN_LIFE_MS: i64 = 24 * 3_600_000;
/// Minimum interval between checkpoints.
pub const CHECKPOINT_INTERVAL_MS: i64 = 10_000;
/// Time after the first counted refusal at which the count is written as one log entry.
pub const REFUSAL_COUNT_INTERVAL: Duration = Duration::from_secs(60);
/// Interval between register refreshes from the alliance and peers.
pub const REGISTER_REFRESH_INTERVAL: Duration = Duration::from_secs(60);
/// Time limit at startup for asking peers which checkpoints of this node's log they hold; silent peers are skipped.
pub const LOG_COMPARE_AT_START_MAX: Duration = Duration::from_secs(2);
/// Interval between these requests while a restored node waits for all peers to answer.
pub const LOG_COMPARE_RESTORED_INTERVAL: Duration = Duration::from_secs(5);
/// Validity of a register.
pub const REGISTER_LIFE_MS: i64 = 14 * 86_400_000;
/// Maximum age of an arriving claim; its message may have waited in the consumer's outbox.
pub const CLAIM_AGE_MS_MAX: i64 = 86_400_000;
/// Validity of an agreement whose policy has no end.
pub const AGREEMENT_LIFE_MS: i64 = 365 * 86_400_000;

// ---- Disk ----
/// Default of the space that sealed bytes never use, in MiB.
pub const DISK_RESERVE_MIB: u64 = 1_024;
/// Space that is set aside for what ends processes on a full disk.
pub const DISK_BALLAST_BYTES: u64 = 64 * MIB as u64;
/// Interval between checks whether a transfer whose data is verified has ended.
pub const INTERRUPTION_CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// Bytes of a file between two checks of the free space.
pub const DISK_CHECK_BYTES: u64 = 8 * MIB as u64;
/// Largest ratio of text to sealed bytes in a delivery; a provider with more compressible data divides it into datasets.
pub const TEXT_RATIO_MAX: u64 = 1_000;
/// Text that a delivery may have whatever its ratio.
pub const TEXT_BYTES_SMALL: u64 = 64 * MIB as u64;

/// Subscriptions of the users of one node.
pub const SUBSCRIPTIONS_MAX: usize = 1_000;

// ---- Sources ----
/// Sources of one node.
pub const SOURCES_MAX: usize = 500;
/// Runs of sources at the same time; others wait.
pub const SOURCE_RUNS_MAX: usize = 64;
/// Runs of sources at the same time that use one connection; others wait.
pub const SOURCE_RUNS_PER_CONNECTION_MAX: usize = 4;
/// Length of a schedule.
pub const SCHEDULE_BYTES_MAX: usize = 200;
/// Length of the path and query of an HTTP source.
pub const SOURCE_PATH_BYTES_MAX: usize = 4_000;
/// Length of the query of a database source.
pub const SOURCE_QUERY_BYTES_MAX: usize = 64 * KIB;
/// Hours within which a source can be expected to have new content: a year.
pub const EXPECTED_HOURS_MAX: u32 = 24 * 366;
/// Time after the time of a schedule after which a run that has not ended well is overdue.
pub const SOURCE_OVERDUE_MS: i64 = 15 * 60 * 1_000;
/// Pause after the first failed run of a source; doubled for each further one.
pub const SOURCE_RETRY_MS: i64 = 60 * 1_000;
/// Longest pause after a failed run of a source.
pub const SOURCE_RETRY_MS_MAX: i64 = 60 * 60 * 1_000;
/// Interval at which watched folders are looked at. A file is read when it has not changed for one interval.
pub const FOLDER_LOOK_INTERVAL: Duration = Duration::from_secs(5);
/// Folders that are looked at at the same time; one that hangs keeps its place.
pub const FOLDER_LOOKS_MAX: usize = 64;
/// Refused files of a folder whose reasons are kept; of further ones only the names.
pub const REFUSED_FILES_TOLD_MAX: usize = 100;
/// Files of a folder that fit the pattern of a source.
pub const FOLDER_FILES_MAX: usize = 4_096;
/// Time in which a run of a source must end.
pub const SOURCE_RUN_TIME_MAX: Duration = Duration::from_secs(6 * 60 * 60);
/// Time in which a run of a source waits for its turn.
pub const SOURCE_TURN_TIME_MAX: Duration = Duration::from_secs(10 * 60);
/// Time without data from a server or database after which a run fails.
pub const SOURCE_IDLE_TIME_MAX: Duration = Duration::from_secs(5 * 60);
/// Time in which a database must begin to give rows.
pub const SOURCE_ANSWER_TIME_MAX: Duration = Duration::from_secs(30 * 60);
/// Redirections that one request of a source follows.
pub const REDIRECTS_MAX: usize = 5;
/// Pages of one HTTP resource.
pub const PAGES_MAX: u64 = 100_000;
/// Size of one page, which is held in memory.
pub const PAGE_BYTES_MAX: usize = 32 * MIB;
/// Size of a file with a secret of a connection.
pub const SECRET_BYTES_MAX: u64 = 64 * KIB as u64;
