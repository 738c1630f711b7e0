//! Charts: shapes are scalable SVG, text is HTML, so that both fit at any width.

use std::fmt::Write as _;

use maud::{Markup, html};
use simulator::detail::Point;
use simulator::engine::Millis;

/// Width and height of the SVGs in their own units.
const SIZE: f64 = 1000.0;

/// One series of a chart: its name, its class in the style sheet, its value.
type Part = (&'static str, &'static str, fn(&Point) -> u64);

const MACHINES: [Part; 4] = [
    ("building", "building", |point| point.building),
    ("idle", "idle", |point| point.idle),
    ("booting or being deployed", "booting", |point| point.booting),
    ("stopped", "stopped", |point| point.stopped),
];
const QUEUE: [Part; 2] = [
    ("steps that wait", "waiting", |point| point.waiting),
    ("steps that are built", "running", |point| point.running),
];

/// Machines over time, by activity.
pub(super) fn machines(course: &[Point]) -> Markup {
    let stacked = |point: &Point| MACHINES.iter().map(|part| mean(point, part.2)).sum::<f64>();
    let top = nice(course.iter().map(stacked).fold(1.0, f64::max));
    let mut below = vec![0.0; course.len()];
    let shapes: Vec<_> = MACHINES
        .iter()
        .map(|(name, class, value)| {
            let above: Vec<f64> = course
                .iter()
                .zip(&below)
                .map(|(point, below)| below + mean(point, *value))
                .collect();
            let shape = area(course, &below, &above, top);
            below = above;
            (*name, *class, shape)
        })
        .collect();
    let shown = MACHINES.iter().filter(|part| course.iter().any(|point| (part.2)(point) > 0));
    framed(
        &legend(shown),
        course,
        top,
        &html! {
            @for (name, class, shape) in &shapes { path class=(class) d=(shape) { title { (name) } } }
        },
    )
}

/// The queue over time.
pub(super) fn queue(course: &[Point]) -> Markup {
    let of = |value: fn(&Point) -> u64| course.iter().map(move |point| mean(point, value));
    let values = QUEUE.iter().flat_map(|part| of(part.2));
    let top = nice(values.fold(1.0, f64::max));
    let zero = vec![0.0; course.len()];
    let [waiting, running] = QUEUE.map(|part| of(part.2).collect::<Vec<f64>>());
    framed(
        &legend(QUEUE.iter()),
        course,
        top,
        &html! {
            path class="waiting" d=(area(course, &zero, &waiting, top)) { title { "steps that wait" } }
            path class="running" d=(line(course, &running, top)) { title { "steps that are built" } }
        },
    )
}

/// Cumulative distribution of waits, on a logarithmic scale that ends at `longest`.
pub(super) fn waits(quantiles: &[(u64, Millis)], target: Millis, longest: Millis) -> Markup {
    let decades = to_float(longest.0.max(10_000)).log10();
    // Starts at one second: shorter waits are at the edge.
    let x = |wait: Millis| (to_float(wait.0.max(1000)).log10() - 3.0) / (decades - 3.0) * SIZE;
    let mut shape = String::new();
    for (at, (permille, wait)) in quantiles.iter().enumerate() {
        let (x, y) = (x(*wait), SIZE - to_float(*permille));
        let _ = write!(shape, "{}{x:.0} {y:.0}", if at == 0 { "M" } else { "L" });
    }
    let _ = write!(shape, "L{SIZE:.0} 0");
    let ticks = [1_u64, 10, 60, 600, 3600, 36_000, 360_000].map(Millis::from_seconds);
    let ticks = ticks.into_iter().filter(|tick| x(*tick) <= SIZE * 1.001);
    let labels: Vec<_> = ticks.map(|tick| (x(tick) / SIZE, short(tick))).collect();
    html! {
        div.chart {
            div.y { span { "100 %" } span { "50 %" } span { "0 %" } }
            div.plot {
                svg viewBox="0 0 1000 1000" preserveAspectRatio="none" {
                    line.grid x1="0" x2="1000" y1="500" y2="500" {}
                    line.target x1=(x(target)) x2=(x(target)) y1="0" y2="1000" { title { "target" } }
                    path.share d=(shape) {}
                }
            }
            (axis(&labels))
        }
    }
}

/// Labels below a chart, each at its share of the width.
fn axis(labels: &[(f64, String)]) -> Markup {
    html! {
        div.x style="position:relative;height:1.4em;display:block" {
            @for (share, label) in labels {
                span style={ "position:absolute;white-space:nowrap;" (place(*share)) } { (label) }
            }
        }
    }
}

/// A linear time axis from zero to `longest`.
fn time_axis(longest: Millis) -> Markup {
    const STEPS: [u64; 17] = [
        1, 5, 15, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21_600, 43_200, 86_400, 172_800,
        604_800, 2_592_000,
    ];
    const MOST_TICKS: u64 = 8;
    let longest = longest.0.max(1);
    let steps = STEPS.map(|step| Millis::from_seconds(step).0);
    let fits = |step: &u64| longest / step <= MOST_TICKS;
    let step = steps.into_iter().find(fits).unwrap_or_else(|| longest.div_ceil(MOST_TICKS));
    let ticks = (0..=longest / step).map(|tick| Millis(tick * step));
    axis(&ticks.map(|tick| (to_float(tick.0) / to_float(longest), short(tick))).collect::<Vec<_>>())
}

/// Horizontal alignment of a label.
fn place(share: f64) -> String {
    let percent = share * 100.0;
    match percent {
        95.0.. => "right:0".to_owned(),
        5.0.. => format!("left:{percent:.1}%;transform:translateX(-50%)"),
        _ => "left:0".to_owned(),
    }
}

/// Configurations by wait (seconds) and cost (dollars); those not dominated by another are the Pareto front.
pub(super) fn pareto(points: &[(String, f64, f64)]) -> Markup {
    let top = |of: fn(&(String, f64, f64)) -> f64| nice(points.iter().map(of).fold(0.0, f64::max));
    let (wait, cost) = (top(|point| point.1), top(|point| point.2));
    let is_front = |one: &(String, f64, f64)| {
        !points.iter().any(|other| {
            other.1 <= one.1 && other.2 <= one.2 && (other.1 < one.1 || other.2 < one.2)
        })
    };
    html! {
        div.chart {
            div.y { span { "$" (number(cost)) } span { "$" (number(cost / 2.0)) } span { "$0" } }
            div.plot {
                @for point in points {
                    @let (x, y) = (point.1 / wait * 100.0, point.2 / cost * 100.0);
                    span.dot.front[is_front(point)].left[x > 80.0]
                        style={ "left:" (format!("{x:.1}")) "%;bottom:" (format!("{y:.1}")) "%;top:auto;margin:0 -6px -6px" } {
                        b { (point.0) }
                    }
                }
            }
            (time_axis(millis(wait)))
        }
    }
}

/// One stacked bar of parts (name, class, value); the caption has the values.
pub(super) fn bar(parts: &[(&str, &str, f64)]) -> Markup {
    let total: f64 = parts.iter().map(|part| part.2).sum::<f64>().max(f64::MIN_POSITIVE);
    html! {
        div.bar {
            @for (name, class, value) in parts {
                @let percent = value / total * 100.0;
                div class=(class) title=(name) style={ "width:" (format!("{percent:.2}")) "%" } {}
            }
        }
    }
}

fn legend<'a>(parts: impl Iterator<Item = &'a Part>) -> Markup {
    html! {
        div.legend { @for (name, class, _) in parts { span { i class=(class) {} (name) } } }
    }
}

fn framed(legend: &Markup, course: &[Point], top: f64, shapes: &Markup) -> Markup {
    let last = course.last().map_or(Millis::ZERO, |point| point.at);
    html! {
        (legend)
        div.chart {
            div.y { span { (number(top)) } span { (number(top / 2.0)) } span { "0" } }
            div.plot {
                svg viewBox="0 0 1000 1000" preserveAspectRatio="none" {
                    line.grid x1="0" x2="1000" y1="500" y2="500" {}
                    (shapes)
                }
            }
            (time_axis(last))
        }
    }
}

fn mean(point: &Point, value: fn(&Point) -> u64) -> f64 {
    to_float(value(point)) / to_float(point.looks.max(1))
}

fn x(course: &[Point], point: &Point) -> f64 {
    let last = course.last().map_or(1, |point| point.at.0.max(1));
    to_float(point.at.0) / to_float(last) * SIZE
}

fn area(course: &[Point], below: &[f64], above: &[f64], top: f64) -> String {
    let mut shape = line(course, above, top);
    for (point, value) in course.iter().zip(below).rev() {
        let _ = write!(shape, "L{:.1} {:.1}", x(course, point), SIZE - value / top * SIZE);
    }
    shape + "Z"
}

fn line(course: &[Point], values: &[f64], top: f64) -> String {
    let mut shape = String::new();
    for (at, (point, value)) in course.iter().zip(values).enumerate() {
        let command = if at == 0 { "M" } else { "L" };
        let _ = write!(shape, "{command}{:.1} {:.1}", x(course, point), SIZE - value / top * SIZE);
    }
    shape
}

/// The next number above that begins with 1, 1.5, 2, 3, 4, 6 or 8: its half is also a short number.
fn nice(value: f64) -> f64 {
    let power = 10_f64.powf(value.max(1e-9).log10().floor());
    let steps = [1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 10.0].map(|step| step * power);
    steps.into_iter().find(|step| *step >= value).unwrap_or(10.0 * power)
}

fn number(value: f64) -> String {
    let rounded = format!("{value:.2}");
    rounded.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn short(time: Millis) -> String {
    let seconds = time.whole_seconds();
    match seconds {
        0 => "0".to_owned(),
        1..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

#[allow(clippy::cast_precision_loss, reason = "for people to look at")]
fn to_float(value: u64) -> f64 {
    value as f64
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it saturates")]
fn millis(seconds: f64) -> Millis {
    Millis((seconds * 1000.0) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_end_at_short_numbers() {
        for (value, end) in [(1.0, 1.0), (1.1, 1.5), (37.0, 40.0), (99.0, 100.0), (0.025, 0.03)] {
            assert!((nice(value) - end).abs() < 1e-9, "{value}: {}", nice(value));
        }
        assert_eq!(short(Millis::from_hours(72)), "3 d");
        assert_eq!([7.5, 15.0, 0.25, 200.0].map(number), ["7.5", "15", "0.25", "200"]);
        let axis = time_axis(Millis::from_hours(329)).into_string();
        let labels = axis.split('<').filter_map(|part| part.split_once("\">")).map(|part| part.1);
        let days = ["", "0", "2 d", "4 d", "6 d", "8 d", "10 d", "12 d"];
        assert_eq!(labels.collect::<Vec<_>>(), days);
    }
}
