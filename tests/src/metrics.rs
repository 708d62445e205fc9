//! Reading pages of metrics, in the text format of Prometheus.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Read, Write},
    net::TcpStream,
    time::Duration,
};

/// No page may take longer.
const DEADLINE: Duration = Duration::from_secs(30);

/// What is served at a path of "host:port", head included; panics if that is no success.
#[track_caller]
pub fn http(endpoint: &str, path: &str) -> String {
    let get = || -> io::Result<String> {
        let mut stream = TcpStream::connect(endpoint)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        let head = format!("GET {path} HTTP/1.1\r\nHost: {endpoint}\r\nConnection: close\r\n\r\n");
        stream.write_all(head.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    let answer = get().unwrap_or_else(|error| panic!("{endpoint}{path}: {error}"));
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    answer
}

/// Every gauge of a page, summed over its labels.
pub fn gauges(page: &str) -> BTreeMap<String, f64> {
    let typed = page.lines().filter_map(|line| {
        let (name, kind) = line.strip_prefix("# TYPE ")?.split_once(' ')?;
        (kind == "gauge").then_some(name)
    });
    let typed: BTreeSet<&str> = typed.collect();
    let mut sums = BTreeMap::<_, f64>::new();
    for line in page.lines() {
        let name = line.split(['{', ' ']).next().unwrap_or_default();
        let value = line
            .rsplit(' ')
            .next()
            .and_then(|word| word.parse::<f64>().ok());
        if let (true, Some(value)) = (typed.contains(name), value) {
            *sums.entry(name.to_owned()).or_default() += value;
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gauges_are_summed_and_counters_left_out() {
        let page = "HTTP/1.1 200 OK\r\n\r\n# HELP a b\n# TYPE a gauge\na{x=\"1\"} 2\na{x=\"2\"} 3.5\n\
                    # TYPE ab counter\nab 7\n# TYPE c gauge\nc 1\n";
        let expected = [("a".to_owned(), 5.5), ("c".to_owned(), 1.0)];
        assert_eq!(gauges(page), BTreeMap::from(expected));
    }
}
