//! What the shell and `man` are given: completions and the manual.

mod place;

use place::Place;

#[test]
fn every_shell_gets_completions_of_every_command() {
    let place = Place::empty();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = place.ok(&format!("completions {shell}"));
        for word in ["analyze", "synthesize", "measure-every", "memory-limit"] {
            assert!(script.contains(word), "{shell}: no {word}");
        }
    }
    let status = place.run("completions tcsh").status;
    assert_eq!(status.code(), Some(2));
}

#[cfg(unix)]
#[test]
fn bash_reads_its_completions() {
    let place = Place::empty();
    place.write("ir.bash", &place.ok("completions bash"));
    let line = "source ./ir.bash; COMP_WORDS=(ir tr); COMP_CWORD=1; _ir ir tr ir; echo $COMPREPLY";
    let shell = std::process::Command::new("bash")
        .args(["-c", line])
        .current_dir(place.path(""))
        .output();
    // Where there is no such shell there is nobody to read them.
    if let Ok(output) = shell {
        assert_eq!(place::text(&output.stdout).trim(), "train");
    }
}

#[test]
fn the_manual_has_a_page_for_each_command() {
    let place = Place::empty();
    let said = place.ok("man --out man1");
    for (page, words) in [
        ("ir.1", "what their blocks do"),
        ("ir-train.1", "batch\\-size"),
        ("ir-data-synthesize.1", "train\\-samples"),
        ("ir-man.1", "page for each command"),
    ] {
        assert!(said.contains(page), "{said}");
        let text = place.read(&format!("man1/{page}"));
        assert!(text.contains(words), "{page}: {text}");
    }
    assert!(
        place.read("man1/ir-train.1").contains("Example: ir train"),
        "examples are part of it"
    );
}
