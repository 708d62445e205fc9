//! What may be a name.

use pocket_proto::Status;

use crate::limits::NAME_BYTES_MAX;

/// Checks a name that is to be given, looked up or taken away: 1 to 255 bytes of anything but `/`
/// and NUL, and not a dot that stands for a directory.
pub(crate) fn check_name(name: &[u8]) -> Result<(), Status> {
    if name.len() > NAME_BYTES_MAX {
        return Err(Status::NameTooLong);
    }
    let wrong = name.is_empty()
        || name == b"."
        || name == b".."
        || name.iter().any(|&byte| byte == b'/' || byte == 0);
    if wrong { Err(Status::Invalid) } else { Ok(()) }
}
