//! Access control lists in short: `u::rw-,u:65501:r--,g::r--,m::rw-,o::---`, in the order in which
//! setxattr(2) wants the entries.

/// Kinds of entries and their numbers (linux/posix_acl.h), the named one behind that without a name.
const TAGS: [(&str, u16); 6] = [
    ("u", 0x01),
    ("u", 0x02),
    ("g", 0x04),
    ("g", 0x08),
    ("m", 0x10),
    ("o", 0x20),
];
const NO_ID: u32 = u32::MAX;

/// A list as setxattr(2) takes it. Whether Linux would is not checked.
pub fn acl(text: &str) -> Vec<u8> {
    let mut bytes = 2_u32.to_le_bytes().to_vec();
    for entry in text.split(',') {
        let [tag, id, permissions] = entry.split(':').collect::<Vec<_>>()[..] else {
            panic!("{entry} is not TAG:ID:PERMISSIONS");
        };
        let mut tags = TAGS.iter().filter(|(name, _)| *name == tag);
        let code = tags.nth(usize::from(!id.is_empty()));
        let (_, code) = code.unwrap_or_else(|| panic!("no such entry as {entry}"));
        let bits = permissions.chars().fold(0_u16, |bits, bit| {
            (bits << 1) | u16::from("rwx".contains(bit))
        });
        let id = id.parse().unwrap_or(NO_ID);
        bytes.extend_from_slice(&code.to_le_bytes());
        bytes.extend_from_slice(&bits.to_le_bytes());
        bytes.extend_from_slice(&id.to_le_bytes());
    }
    bytes
}

/// The text of what getxattr(2) gave.
pub fn acl_text(bytes: &[u8]) -> String {
    let entries = bytes[4..].chunks_exact(8).map(|entry| {
        let number = |at: usize| u16::from_le_bytes([entry[at], entry[at + 1]]);
        let (code, bits) = (number(0), number(2));
        let tag = TAGS.iter().find(|(_, known)| *known == code);
        let (tag, _) = tag.expect("the kernel gives no other entries");
        let id = u32::from_le_bytes([entry[4], entry[5], entry[6], entry[7]]);
        let id = Some(id).filter(|id| *id != NO_ID);
        let id = id.map_or(String::new(), |id| id.to_string());
        let letters = [(4, 'r'), (2, 'w'), (1, 'x')];
        let letter = |(bit, letter)| if bits & bit == 0 { '-' } else { letter };
        let permissions: String = letters.into_iter().map(letter).collect();
        format!("{tag}:{id}:{permissions}")
    });
    entries.collect::<Vec<_>>().join(",")
}
