//! Records appended to one file by many: all there, whole, once, and in an order that real time
//! allows.

use super::Event;

/// A record: its number, and its length in bytes. It is filled with what its number says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// No other record's.
    pub number: u32,
    /// At least 8.
    pub bytes: u32,
}

impl Record {
    /// Its bytes: number and length, and then the number's lower byte, which is made not to be 0.
    pub fn content(self) -> Vec<u8> {
        let mut content = vec![self.number as u8 | 1; self.bytes as usize];
        content[..4].copy_from_slice(&(self.number + 1).to_le_bytes());
        content[4..8].copy_from_slice(&self.bytes.to_le_bytes());
        content
    }

    fn read(content: &[u8]) -> Option<Self> {
        let word = |at: usize| {
            let bytes = content.get(at..at + 4)?;
            Some(u32::from_le_bytes(bytes.try_into().ok()?))
        };
        let record = Record {
            number: word(0)?.checked_sub(1)?,
            bytes: word(4).filter(|bytes| *bytes >= 8)?,
        };
        let found = content.get(..record.bytes as usize)?;
        (found == record.content()).then_some(record)
    }
}

/// Judges what the file holds in the end. An append of which nobody knows what came may have left
/// its record, or as many zeros.
pub fn check(events: &[Event<Record>], content: &[u8]) -> Result<(), String> {
    let unsure = events.iter().filter(|event| event.ret.is_none());
    let mut zeros_max: u64 = unsure.map(|event| u64::from(event.operation.bytes)).sum();
    let mut found: Vec<&Event<Record>> = Vec::new();
    let mut at = 0;
    while at < content.len() {
        if content[at] == 0 && zeros_max > 0 && Record::read(&content[at..]).is_none() {
            zeros_max -= 1;
            at += 1;
            continue;
        }
        let record = Record::read(&content[at..]);
        let record = record.ok_or_else(|| format!("no whole record at byte {at}"))?;
        let event = events.iter().find(|event| event.operation == record);
        let event = event.ok_or_else(|| format!("{record:?} at byte {at} is nobody's"))?;
        if found.iter().any(|other| other.operation == record) {
            return Err(format!("{record:?} is there twice"));
        }
        if let Some(later) = found
            .iter()
            .find(|other| event.ret.is_some_and(|ret| ret < other.call))
        {
            return Err(format!("{event:?} is behind {later:?}"));
        }
        found.push(event);
        at += record.bytes as usize;
    }
    let lost = |event: &&Event<Record>| event.ret.is_some() && !found.contains(event);
    match events.iter().find(lost) {
        Some(event) => Err(format!("{event:?} is lost")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn append(number: u32, call: u64, ret: Option<u64>) -> Event<Record> {
        let bytes = 10 + number;
        Event {
            client: 0,
            call,
            ret,
            operation: Record { number, bytes },
        }
    }

    fn file(events: &[&Event<Record>]) -> Vec<u8> {
        let contents = events.iter().map(|event| event.operation.content());
        contents.collect::<Vec<_>>().concat()
    }

    #[test]
    fn every_record_is_there_once_and_in_order() {
        let (one, two) = (append(0, 0, Some(1)), append(1, 2, Some(3)));
        let events = [one.clone(), two.clone()];
        assert_eq!(check(&events, &file(&[&one, &two])), Ok(()));
        assert!(
            check(&events, &file(&[&two, &one])).is_err(),
            "out of order"
        );
        assert!(check(&events, &file(&[&one])).is_err(), "lost");
        assert!(check(&events, &file(&[&one, &two, &two])).is_err(), "twice");
        assert!(check(&events, &file(&[&one, &two, &append(2, 0, None)])).is_err());
        let mut torn = file(&[&one, &two]);
        torn[9] = 0;
        assert!(check(&events, &torn).is_err(), "not whole");
        let overlapping = append(1, 0, Some(3));
        let events = [one.clone(), overlapping.clone()];
        assert_eq!(check(&events, &file(&[&overlapping, &one])), Ok(()));
    }

    #[test]
    fn what_may_have_happened_leaves_a_record_or_zeros_or_nothing() {
        let (one, maybe) = (append(0, 0, Some(1)), append(1, 2, None));
        let events = [one.clone(), maybe.clone()];
        assert_eq!(check(&events, &file(&[&one])), Ok(()));
        assert_eq!(check(&events, &file(&[&one, &maybe])), Ok(()));
        let zeros = [file(&[&one]), vec![0; maybe.operation.bytes as usize]].concat();
        assert_eq!(check(&events, &zeros), Ok(()));
        assert!(check(&events, &[zeros, vec![0]].concat()).is_err());
    }
}
