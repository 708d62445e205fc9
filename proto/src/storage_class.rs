//! Classes of storage servers by name.

use std::{fmt, str::FromStr};

use crate::control::StorageClass;

impl StorageClass {
    const ALL: [StorageClass; 2] = [StorageClass::Regular, StorageClass::LongRunning];

    /// As on command lines.
    pub fn name(self) -> &'static str {
        match self {
            StorageClass::Regular => "regular",
            StorageClass::LongRunning => "long-running",
        }
    }
}

impl fmt::Display for StorageClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for StorageClass {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        StorageClass::ALL
            .into_iter()
            .find(|class| class.name().eq_ignore_ascii_case(text))
            .ok_or_else(|| {
                format!("'{text}' is not a class of storage servers: use regular or long-running")
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_again_and_others_are_refused() {
        for class in StorageClass::ALL {
            assert_eq!(class.to_string().parse(), Ok(class));
        }
        let refused = "persistent".parse::<StorageClass>();
        assert!(refused.is_err_and(|what| what.contains("use regular or long-running")));
    }
}
