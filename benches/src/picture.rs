//! The picture: bars with the quartiles as whiskers, one chart below the other.
//!
//! It brings its own background, in a light and a dark dress, because a page that shows it may be
//! of either.

use crate::sample::Quartiles;

const WIDTH: f64 = 860.0;
/// Where bars begin, and how long the longest is.
const LEFT: f64 = 330.0;
const LONGEST: f64 = 420.0;
const BAR: f64 = 15.0;
const TITLE: f64 = 40.0;
const GAP: f64 = 7.0;

/// Series that have a colour of their own, by class.
const CLASSES: [(&str, &str); 4] = [
    ("Stasis", "ours"),
    ("stock shim", "stock"),
    ("gVisor's shim", "gvisor"),
    ("containerd-runc-shim", "rust"),
];

const STYLE: &str = "\
text { font: 12px system-ui, sans-serif; fill: #24292f }
.title { font-weight: 600; font-size: 14px }
.page { fill: #ffffff; stroke: #d0d7de }
.whisker { stroke: #24292f; stroke-width: 1.5 }
.ours { fill: #e8590c } .stock { fill: #4c8dd6 } .gvisor { fill: #4ba55a } .rust { fill: #9a74c9 }
.other { fill: #9aa4ae }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 }
.page { fill: #0d1117; stroke: #30363d }
.whisker { stroke: #e6edf3 }
}";

/// Groups of bars that have one scale.
#[derive(Debug)]
pub struct Chart {
    /// What is shown, and in which unit.
    pub title: String,
    /// One for each thing that was measured.
    pub groups: Vec<Group>,
}

/// The bars of one thing.
#[derive(Debug)]
pub struct Group {
    /// The thing.
    pub label: String,
    /// One for each peer.
    pub bars: Vec<Bar>,
}

/// One figure.
#[derive(Debug)]
pub struct Bar {
    /// Whose it is.
    pub series: String,
    /// None where there was no answer.
    pub quartiles: Option<Quartiles>,
}

/// Draws charts as one picture.
pub fn draw(charts: &[Chart]) -> String {
    let mut body = String::new();
    let mut y = GAP;
    for chart in charts {
        y = draw_chart(&mut body, chart, y);
    }
    let height = y + 2.0 * GAP;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         viewBox=\"0 0 {WIDTH} {height}\">\n<style>\n{STYLE}\n</style>\n\
         <rect class=\"page\" x=\"0.5\" y=\"0.5\" width=\"{}\" height=\"{}\" rx=\"6\"/>\n\
         {body}</svg>\n",
        WIDTH - 1.0,
        height - 1.0
    )
}

/// Draws one chart from `y` on, and says where it ends.
fn draw_chart(body: &mut String, chart: &Chart, y: f64) -> f64 {
    let ends = chart.groups.iter().flat_map(|group| &group.bars);
    let most = ends
        .filter_map(|bar| bar.quartiles.map(|q| q.high))
        .fold(f64::MIN_POSITIVE, f64::max);
    body.push_str(&text("title", 16.0, y + 22.0, "start", &chart.title));
    let mut y = y + TITLE;
    for group in &chart.groups {
        y = draw_group(body, group, LONGEST / most, y) + GAP;
    }
    y + GAP
}

fn draw_group(body: &mut String, group: &Group, scale: f64, mut y: f64) -> f64 {
    body.push_str(&text("label", 16.0, y + 12.0, "start", &group.label));
    for bar in &group.bars {
        draw_bar(body, bar, scale, y);
        y += BAR + 2.0;
    }
    y
}

fn draw_bar(body: &mut String, bar: &Bar, scale: f64, y: f64) {
    let series = &bar.series;
    body.push_str(&text("series", LEFT - 8.0, y + 12.0, "end", series));
    let Some(q) = bar.quartiles else {
        body.push_str(&text("value", LEFT + 4.0, y + 12.0, "start", "no answer"));
        return;
    };
    let class = CLASSES
        .iter()
        .find(|(name, _)| series.starts_with(name))
        .map_or("other", |(_, class)| class);
    let (low, length, high) = (q.low * scale, q.median * scale, q.high * scale);
    body.push_str(&format!(
        "<rect class=\"{class}\" x=\"{LEFT}\" y=\"{y:.1}\" width=\"{length:.1}\" height=\"{BAR}\"/>\n"
    ));
    if high - low > 1.0 {
        let (from, to, middle) = (LEFT + low, LEFT + high, y + BAR / 2.0);
        body.push_str(&format!(
            "<path class=\"whisker\" d=\"M{from:.1} {middle:.1}H{to:.1}\"/>\n"
        ));
    }
    let decimals = if q.median < 1000.0 { 1 } else { 0 };
    let value = format!("{:.decimals$}", q.median);
    let end = LEFT + high.max(length) + 6.0;
    body.push_str(&text("value", end, y + 12.0, "start", &value));
}

fn text(class: &str, x: f64, y: f64, anchor: &str, text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    format!(
        "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_figure_is_named_and_no_text_breaks_the_picture() {
        let bars = vec![
            Bar {
                series: "Stasis <&>".into(),
                quartiles: None,
            },
            Bar {
                series: "stock shim".into(),
                quartiles: Some(Quartiles {
                    low: 1.0,
                    median: 2.0,
                    high: 4.0,
                }),
            },
        ];
        let label = "pause".to_owned();
        let picture = draw(&[Chart {
            title: "ms".into(),
            groups: vec![Group { label, bars }],
        }]);
        assert!(picture.contains("Stasis &lt;&amp;>"));
        assert!(picture.contains(">no answer<"));
        assert!(picture.contains("width=\"210.0\""), "half of the longest");
    }
}
