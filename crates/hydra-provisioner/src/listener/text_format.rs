//! The two text formats of Prometheus scrapers.

/// The format of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TextFormat {
    /// Prometheus' own.
    Prometheus,
    OpenMetrics,
}

impl TextFormat {
    /// `OpenMetrics` only on request.
    pub(super) fn accepted(accept: &str) -> Self {
        if accept.contains("application/openmetrics-text") {
            Self::OpenMetrics
        } else {
            Self::Prometheus
        }
    }

    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// Converts `text` from `OpenMetrics` to this format. In Prometheus' own, a counter's name is that of its samples,
    /// with `_total`.
    pub(super) fn write(self, text: String) -> String {
        if self == Self::OpenMetrics {
            return text;
        }
        let counters: Vec<&str> = text
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter"))
            .collect();
        let mut result = String::with_capacity(text.len());
        for line in text.lines().filter(|line| *line != "# EOF") {
            match line.splitn(4, ' ').collect::<Vec<_>>()[..] {
                ["#", what @ ("HELP" | "TYPE"), name, rest] if counters.contains(&name) => {
                    result.extend(["# ", what, " ", name, "_total ", rest]);
                }
                _ => result.push_str(line),
            }
            result.push('\n');
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::TextFormat;

    const OPEN_METRICS: &str = "# HELP made Machines made.\n# TYPE made counter\nmade_total{type=\"a b\"} 2\n\
                                # HELP up Whether.\n# TYPE up gauge\nup 1\n# EOF\n";

    #[test]
    fn counters_are_called_by_their_samples_name() {
        assert_eq!(
            TextFormat::Prometheus.write(OPEN_METRICS.to_owned()),
            "# HELP made_total Machines made.\n# TYPE made_total counter\nmade_total{type=\"a b\"} 2\n\
             # HELP up Whether.\n# TYPE up gauge\nup 1\n"
        );
    }

    #[test]
    fn open_metrics_is_for_those_that_ask_for_it() {
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        assert_eq!(TextFormat::accepted(prometheus), TextFormat::OpenMetrics);
        assert_eq!(TextFormat::accepted("*/*"), TextFormat::Prometheus);
        let same = TextFormat::OpenMetrics.write(OPEN_METRICS.to_owned());
        assert_eq!(same, OPEN_METRICS);
    }
}
