//! The report in a real browser: it is opened, clicked, and must not complain. Compiled with `--cfg browser`
//! alone, since what speaks to a browser takes minutes to compile.

#![cfg(browser)]

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use headless_chrome::protocol::cdp::Emulation::SetDeviceMetricsOverride;
use headless_chrome::protocol::cdp::types::Event;
use headless_chrome::{Browser, LaunchOptions, Tab};

mod common;
use common::Sample;

/// A report of two networks, one analysed with transitions.
fn report() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("browser");
    let _ = std::fs::remove_dir_all(&folder);
    Sample::three_stages("resnet-32", 5, 1).write(&folder.join("a"));
    Sample::one_stage("single-representation", 10, 1).write(&folder.join("b"));
    let made = Command::new(env!("CARGO_BIN_EXE_ir"))
        .args(["report", "a", "b", "--out", "out"])
        .current_dir(&folder)
        .status()
        .expect("ir");
    assert!(made.success());
    folder.join("out/report.html")
}

/// What an expression is, as JSON.
fn value(tab: &Tab, expression: &str) -> serde_json::Value {
    let found = tab.evaluate(expression, false).expect(expression);
    found.value.unwrap_or(serde_json::Value::Null)
}

#[test]
fn the_report_works_in_a_browser() {
    let options = LaunchOptions::default_builder()
        .sandbox(false)
        .window_size(Some((1100, 900)))
        .args(vec![OsStr::new("--disable-gpu")])
        .build()
        .expect("options");
    let browser = Browser::new(options).expect("a Chromium, on the path or as $CHROME");
    let tab = browser.new_tab().expect("a tab");
    let complaints = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&complaints);
    tab.enable_log().expect("a log");
    tab.enable_runtime().expect("a runtime");
    tab.add_event_listener(Arc::new(move |event: &Event| {
        let said = match event {
            Event::LogEntryAdded(entry) => Some(entry.params.entry.text.clone()),
            Event::RuntimeExceptionThrown(thrown) => {
                Some(format!("{:?}", thrown.params.exception_details))
            }
            Event::RuntimeConsoleAPICalled(call) => Some(format!("{:?}", call.params)),
            _ => None,
        };
        heard.lock().expect("a lock").extend(said);
    }))
    .expect("a listener");
    let page = format!("file://{}", report().display());
    tab.navigate_to(&page)
        .and_then(|tab| tab.wait_until_navigated())
        .expect("the page");

    // The lines of one split go and come back.
    let hidden = "getComputedStyle(document.querySelector('figure .of-train')).display";
    assert_eq!(value(&tab, hidden), "inline");
    let click = |selector: &str| {
        let button = tab.wait_for_element(selector).expect(selector);
        button.click().expect(selector);
    };
    click("[data-show=test]");
    assert_eq!(value(&tab, hidden), "none");
    click("[data-show=both]");
    assert_eq!(value(&tab, hidden), "inline");

    // A block's measures stand in the table.
    let name = "document.getElementById('block-name').textContent";
    assert_eq!(value(&tab, name), "block 0, stage 0");
    tab.wait_for_element("#block")
        .and_then(|slider| slider.focus().map(|_| ()))
        .expect("a slider");
    for _ in 0..5 {
        tab.press_key("ArrowRight").expect("a key");
    }
    assert_eq!(value(&tab, name), "block 5, stage 1, a transition");
    let rows = "document.querySelectorAll('#block-rows tr').length";
    assert_eq!(value(&tab, rows), 7);

    // A pointer near a mark shows its value.
    let mark = "document.querySelector('#fig4 + figure circle').getBoundingClientRect()";
    value(&tab, "document.getElementById('fig4').scrollIntoView()");
    let place = |axis: &str| {
        value(&tab, &format!("{mark}.{axis}"))
            .as_f64()
            .expect("a place")
    };
    let point = headless_chrome::browser::tab::point::Point {
        x: place("x") + 5.0,
        y: place("y") + 5.0,
    };
    tab.move_mouse_to_point(point).expect("a pointer");
    let tip = value(
        &tab,
        "document.querySelector('.tip:not([hidden])').textContent",
    );
    assert_eq!(tip, "block 10 (transition), train, exit: −0.400 ± 0.080");

    // Panels stand side by side.
    let columns = "new Set([...document.querySelectorAll('#fig2 + figure svg')]\
                   .map(panel => panel.getBoundingClientRect().left)).size";
    assert_eq!(value(&tab, columns), 2);

    // On a phone they stand below each other, and nothing is wider than the page.
    tab.call_method(SetDeviceMetricsOverride {
        width: 390,
        height: 844,
        device_scale_factor: 2.0,
        mobile: true,
        scale: None,
        screen_width: None,
        screen_height: None,
        position_x: None,
        position_y: None,
        dont_set_visible_size: None,
        screen_orientation: None,
        viewport: None,
        display_feature: None,
        device_posture: None,
    })
    .expect("a phone");
    let width = value(&tab, "document.documentElement.scrollWidth");
    assert_eq!(width, 390);
    assert_eq!(value(&tab, columns), 1);
    let clipped = "[...document.querySelectorAll('figure svg')]\
                   .filter(panel => panel.getBoundingClientRect().right > 390).length";
    assert_eq!(value(&tab, clipped), 0);

    let complaints = complaints.lock().expect("a lock");
    assert!(complaints.is_empty(), "{complaints:?}");
}
