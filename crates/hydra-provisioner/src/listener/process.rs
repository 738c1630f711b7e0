//! `process_*`: Prometheus' standard metrics about the process.

use std::fmt;

use procfs::process::{LimitValue, Process};
use procfs::{CurrentSI as _, WithCurrentSystemInfo as _};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use super::counters::float;

#[derive(Debug)]
pub(super) struct ProcessCollector;

impl Collector for ProcessCollector {
    /// Values that the system does not report are left out.
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Ok(process) = Process::myself() else { return Ok(()) };
        let ticks = float(procfs::ticks_per_second());
        if let Ok(stat) = process.stat() {
            let cpu = ConstCounter::new(float(stat.utime + stat.stime) / ticks);
            one(&mut encoder, "process_cpu_seconds", "Seconds of CPU time, user and system", &cpu)?;
            let resident = ConstGauge::new(stat.rss_bytes().get());
            one(
                &mut encoder,
                "process_resident_memory_bytes",
                "Resident memory in bytes",
                &resident,
            )?;
            let virtual_size = ConstGauge::new(stat.vsize);
            one(
                &mut encoder,
                "process_virtual_memory_bytes",
                "Virtual memory in bytes",
                &virtual_size,
            )?;
            if let Ok(kernel) = procfs::KernelStats::current() {
                let start = ConstGauge::new(float(kernel.btime) + float(stat.starttime) / ticks);
                let help = "When the process started, in seconds since 1970";
                one(&mut encoder, "process_start_time_seconds", help, &start)?;
            }
            let threads = ConstGauge::new(stat.num_threads);
            one(&mut encoder, "process_threads", "Threads of the process", &threads)?;
        }
        if let Ok(open) = process.fd_count() {
            let open = ConstGauge::new(open as u64);
            one(&mut encoder, "process_open_fds", "Open file descriptors", &open)?;
        }
        if let Ok(limits) = process.limits()
            && let LimitValue::Value(most) = limits.max_open_files.soft_limit
        {
            let help = "Maximum number of open file descriptors";
            one(&mut encoder, "process_max_fds", help, &ConstGauge::new(most))?;
        }
        Ok(())
    }
}

fn one(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    metric: &impl EncodeMetric,
) -> fmt::Result {
    metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
}
