//! What a dashboard is built of, as Grafana's JSON.

use serde_json::{Value, json};

/// How a panel shows its queries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum View {
    /// Lines over time.
    Lines,
    /// Areas over time that add up.
    Stacked,
    /// The latest value, large.
    Number,
    /// States over time.
    States,
    /// A row for each series, at the end of the range.
    Table,
}

/// A panel.
pub(crate) struct Panel {
    title: &'static str,
    what: &'static str,
    view: View,
    unit: &'static str,
    width: u32,
    thresholds: Vec<(f64, &'static str)>,
    words: Vec<(&'static str, &'static str)>,
    /// Expression and legend.
    targets: Vec<(String, &'static str)>,
    link: Option<&'static str>,
}

/// A panel of `view` with `title` and what it tells.
pub(crate) fn panel(view: View, title: &'static str, what: &'static str) -> Panel {
    let width = match view {
        View::Lines | View::Stacked | View::States | View::Table => 12,
        View::Number => 4,
    };
    Panel {
        title,
        what,
        view,
        unit: "short",
        width,
        thresholds: vec![],
        words: vec![],
        targets: vec![],
        link: None,
    }
}

impl Panel {
    /// Adds a query. `@` in it is the job and the instance that the dashboard's variables select.
    pub(crate) fn query(mut self, expr: impl Into<String>, legend: &'static str) -> Self {
        self.targets.push((expr.into().replace('@', "job=~\"$job\",instance=~\"$instance\""), legend));
        self
    }

    /// Sets Grafana's unit.
    pub(crate) const fn unit(mut self, unit: &'static str) -> Self {
        self.unit = unit;
        self
    }

    /// Sets the width; a dashboard has 24.
    pub(crate) const fn wide(mut self, width: u32) -> Self {
        self.width = width;
        self
    }

    /// Green, and from each value on another colour.
    pub(crate) fn from(mut self, value: f64, colour: &'static str) -> Self {
        self.thresholds.push((value, colour));
        self
    }

    /// Shows a value as a word.
    pub(crate) fn word(mut self, value: &'static str, word: &'static str) -> Self {
        self.words.push((value, word));
        self
    }

    /// Leads to a dashboard.
    pub(crate) const fn to(mut self, url: &'static str) -> Self {
        self.link = Some(url);
        self
    }

    const fn kind(&self) -> &'static str {
        match self.view {
            View::Lines | View::Stacked => "timeseries",
            View::Number => "stat",
            View::States => "state-timeline",
            View::Table => "table",
        }
    }

    const fn height(&self) -> u32 {
        match self.view {
            View::Lines | View::Stacked | View::Table => 8,
            View::Number => 4,
            View::States => 5,
        }
    }

    fn json(&self, id: u32, x: u32, y: u32) -> Value {
        let at_the_end = matches!(self.view, View::Table);
        let targets: Vec<Value> = self
            .targets
            .iter()
            .zip('A'..)
            .map(|((expr, legend), id)| {
                json!({
                    "datasource": source(), "editorMode": "code", "expr": expr, "legendFormat": legend,
                    "refId": id.to_string(), "instant": at_the_end, "range": !at_the_end,
                    "format": if at_the_end { "table" } else { "time_series" },
                })
            })
            .collect();
        let mut steps = vec![json!({"color": "green", "value": null})];
        steps.extend(self.thresholds.iter().map(|(value, color)| json!({"color": color, "value": value})));
        let words: serde_json::Map<String, Value> = self
            .words
            .iter()
            .zip(0..)
            .map(|((value, word), index)| ((*value).to_owned(), json!({"text": word, "index": index})))
            .collect();
        let mappings =
            if words.is_empty() { json!([]) } else { json!([{"type": "value", "options": words}]) };
        let links = self
            .link
            .map_or(json!([]), |url| json!([{"title": "look closer", "url": url, "targetBlank": false}]));
        let mut panel = json!({
            "id": id, "type": self.kind(), "title": self.title, "description": self.what,
            "datasource": source(), "targets": targets,
            "gridPos": {"x": x, "y": y, "w": self.width, "h": self.height()},
            "fieldConfig": {
                "defaults": {
                    "unit": self.unit, "mappings": mappings, "custom": self.custom(), "links": links,
                    "thresholds": {"mode": "absolute", "steps": steps},
                },
                "overrides": [],
            },
            "options": self.options(),
        });
        if at_the_end {
            // The columns that a person does not need to see.
            panel["transformations"] = json!([
                {"id": "merge", "options": {}},
                {"id": "organize", "options": {"excludeByName": {"Time": true, "__name__": true}}},
            ]);
        }
        panel
    }

    fn custom(&self) -> Value {
        match self.view {
            View::Lines | View::Stacked => json!({
                "lineWidth": 1, "fillOpacity": if self.view == View::Stacked { 30 } else { 5 },
                "showPoints": "never", "axisSoftMin": 0,
                "stacking": {"mode": if self.view == View::Stacked { "normal" } else { "none" }, "group": "A"},
                "thresholdsStyle": {"mode": if self.thresholds.is_empty() { "off" } else { "line" }},
            }),
            View::States => json!({"lineWidth": 0, "fillOpacity": 70}),
            View::Table => json!({"align": "auto", "filterable": true}),
            View::Number => json!({}),
        }
    }

    fn options(&self) -> Value {
        match self.view {
            View::Lines | View::Stacked => json!({
                "legend": {"displayMode": "table", "placement": "right", "showLegend": true, "calcs": ["lastNotNull", "max"]},
                "tooltip": {"mode": "multi", "sort": "desc"},
            }),
            View::Number => json!({
                "colorMode": if self.thresholds.is_empty() { "none" } else { "background" }, "graphMode": "area",
                "justifyMode": "auto", "orientation": "auto", "textMode": "auto",
                "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": false},
            }),
            View::States => json!({
                "mergeValues": true, "showValue": "auto", "alignValue": "left", "rowHeight": 0.9,
                "legend": {"displayMode": "list", "placement": "bottom", "showLegend": true, "calcs": []},
                "tooltip": {"mode": "single", "sort": "none"},
            }),
            View::Table => json!({"showHeader": true, "cellHeight": "sm"}),
        }
    }
}

/// One line of a dashboard.
pub(crate) enum Item {
    /// A heading, for what follows.
    Row(&'static str),
    /// A panel.
    Panel(Panel),
    /// Words, in Markdown, with their height.
    Text(&'static str, u32),
}

/// The data source that the dashboard's variable names.
fn source() -> Value {
    json!({"type": "prometheus", "uid": "${datasource}"})
}

/// What every dashboard lets choose.
const VARIABLES: [Variable; 2] = [
    Variable::Labels("job", "label_values(greenroom_build_info, job)"),
    Variable::Labels("instance", "label_values(greenroom_build_info{job=~\"$job\"}, instance)"),
];

/// Something to choose at the top of a dashboard.
#[derive(Clone, Copy)]
pub(crate) enum Variable {
    /// Values of a label.
    Labels(&'static str, &'static str),
    /// Free text, with what it is at first.
    Text(&'static str, &'static str),
}

impl Variable {
    fn json(self) -> Value {
        match self {
            Self::Labels(name, query) => json!({
                "name": name, "label": name, "type": "query", "datasource": source(),
                "query": {"query": query, "refId": "variable"},
                "refresh": 2, "sort": 1, "multi": true, "includeAll": true, "allValue": ".*",
                "current": {"selected": true, "text": ["All"], "value": ["$__all"]}, "options": [],
            }),
            Self::Text(name, value) => json!({
                "name": name, "label": name, "type": "textbox", "query": value,
                "current": {"selected": true, "text": value, "value": value},
                "options": [{"selected": true, "text": value, "value": value}],
            }),
        }
    }
}

fn annotation(name: &str, colour: &str, expr: &str, title: &str, text: &str) -> Value {
    json!({
        "name": name, "datasource": source(), "enable": true, "hide": false, "iconColor": colour,
        "expr": expr.replace('@', "job=~\"$job\",instance=~\"$instance\""),
        "titleFormat": title, "textFormat": text, "useValueForTime": false, "step": "15s",
    })
}

fn annotations() -> Value {
    json!({"list": [
        annotation(
            "deploys", "blue",
            "max by (version, commit) (greenroom_build_info{@} unless greenroom_build_info{@} offset 5m)",
            "Greenroom {{version}}", "commit {{commit}} began to run",
        ),
        annotation(
            "breaker", "red", "max by (upstream) (greenroom_breaker_state{@}) > 0",
            "breaker not closed", "{{upstream}}",
        ),
        annotation(
            "alerts", "orange", "ALERTS{job=~\"$job\",alertname=~\"Greenroom.*\",alertstate=\"firing\"}",
            "{{alertname}}", "{{tenant}} {{code}} {{upstream}}",
        ),
    ]})
}

/// A dashboard.
pub(crate) struct Dashboard {
    /// Its name in addresses and files.
    pub(crate) uid: &'static str,
    /// Its title.
    pub(crate) title: &'static str,
    /// What it answers.
    pub(crate) what: &'static str,
    /// What it lets choose besides job and instance.
    pub(crate) variables: Vec<Variable>,
    /// From the top on.
    pub(crate) items: Vec<Item>,
}

impl Dashboard {
    /// As Grafana reads it.
    pub(crate) fn json(&self) -> Value {
        let mut list = vec![json!({
            "name": "datasource", "label": "data source", "type": "datasource", "query": "prometheus",
            "current": {}, "hide": 0, "includeAll": false, "multi": false, "options": [], "refresh": 1, "regex": "",
        })];
        list.extend(VARIABLES.iter().chain(&self.variables).map(|variable| variable.json()));
        json!({
            "uid": self.uid, "title": self.title, "description": self.what, "tags": ["greenroom"],
            "schemaVersion": 39, "version": 1, "editable": true, "graphTooltip": 1, "timezone": "utc",
            "time": {"from": "now-3h", "to": "now"}, "refresh": "30s",
            "annotations": annotations(), "templating": {"list": list}, "panels": self.panels(),
            "links": [{
                "type": "dashboards", "title": "Greenroom", "tags": ["greenroom"], "asDropdown": true,
                "includeVars": true, "keepTime": true, "targetBlank": false, "icon": "external link", "tooltip": "",
                "url": "",
            }],
        })
    }

    /// Panels from left to right, a new line where one has no room.
    fn panels(&self) -> Vec<Value> {
        let (mut x, mut y, mut line) = (0, 0, 0);
        let mut place = |width: u32, height: u32| {
            if x + width > 24 {
                (x, y, line) = (0, y + line, 0);
            }
            let at = (x, y);
            (x, line) = (x + width, line.max(height));
            at
        };
        self.items
            .iter()
            .zip(1..)
            .map(|(item, id)| match item {
                Item::Row(title) => {
                    let (x, y) = place(24, 1);
                    json!({
                        "id": id, "type": "row", "title": title, "collapsed": false, "panels": [],
                        "gridPos": {"x": x, "y": y, "w": 24, "h": 1},
                    })
                }
                Item::Panel(panel) => {
                    let (x, y) = place(panel.width, panel.height());
                    panel.json(id, x, y)
                }
                Item::Text(text, height) => {
                    let (x, y) = place(24, *height);
                    json!({
                        "id": id, "type": "text", "title": "", "transparent": true,
                        "gridPos": {"x": x, "y": y, "w": 24, "h": height},
                        "options": {"mode": "markdown", "content": text},
                    })
                }
            })
            .collect()
    }
}
