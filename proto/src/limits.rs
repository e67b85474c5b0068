//! Every limit that two parts of Godwit must agree on, in one place.

/// Bytes of a user id, device id or request key.
pub const ID_BYTES_MAX: usize = 64;
/// Bytes of a message's data.
pub const BODY_BYTES_MAX: usize = 64 * 1024;
/// Bytes of a ClientFrame without its length.
pub const CLIENT_FRAME_BYTES_MAX: usize = BODY_BYTES_MAX + 4 * 1024;
/// Bytes of a ServerFrame without its length: a page of sync fits.
pub const SERVER_FRAME_BYTES_MAX: usize = 1024 * 1024;
/// Bytes that a link may send before it is signed in: a sign-in fits, and a link with all of it unread and everything
/// else that is kept of it stays below 8 KiB.
pub const UNAUTHENTICATED_BYTES_MAX: usize = 6 * 1024;
/// Sends of a link that are not acknowledged; one more is a protocol error.
pub const UNACKED_SENDS_MAX: usize = 64;
/// Entries of a sync page, and of a history page.
pub const SYNC_ENTRIES_MAX: usize = 200;
/// Bytes of entries after which a page of sync ends early.
pub const SYNC_PAGE_BYTES_MAX: usize = 512 * 1024;
/// Members on a page of the members query.
pub const MEMBERS_PAGE_MAX: usize = 500;
/// Members of a small group, at the most; the setting in force may be lower.
pub const GROUP_MEMBERS_MAX: usize = 500;
/// Bytes of a group's name.
pub const GROUP_NAME_BYTES_MAX: usize = 256;
/// Devices of a user that are remembered (cursor, session), at the most.
pub const DEVICES_PER_USER_MAX: usize = 32;
/// Bytes of a device class.
pub const DEVICE_CLASS_BYTES_MAX: usize = 32;
/// Bytes of the client's name and version.
pub const CLIENT_NAME_BYTES_MAX: usize = 64;
/// Bytes of a token.
pub const TOKEN_BYTES_MAX: usize = 4 * 1024;
/// Bytes of a record in a log: the largest possible output carries one body and the members of a group.
pub const RECORD_BYTES_MAX: usize = 256 * 1024;
/// Entries of one CQL partition of a timeline or a history: `seq / BUCKET`.
pub const BUCKET: u64 = 4096;

const _: () = assert!(CLIENT_FRAME_BYTES_MAX > BODY_BYTES_MAX + 3 * ID_BYTES_MAX + 64);
// The longest legal command names every member of a group.
const _: () = assert!(CLIENT_FRAME_BYTES_MAX > GROUP_MEMBERS_MAX * (ID_BYTES_MAX + 2) + 512);
const _: () = assert!(TOKEN_BYTES_MAX + 512 < UNAUTHENTICATED_BYTES_MAX);
const _: () = assert!(RECORD_BYTES_MAX > 2 * CLIENT_FRAME_BYTES_MAX + GROUP_MEMBERS_MAX * (ID_BYTES_MAX + 4));
const _: () = assert!(SERVER_FRAME_BYTES_MAX > SYNC_PAGE_BYTES_MAX + 2 * CLIENT_FRAME_BYTES_MAX);
