//! Where a named data set is looked for, and what happens when it is nowhere.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};

use common::{assert_says, fixture, folder_of, nowhere, put};
use ir_data::{Dataset, Error, LabelSet, Locations, fetch, synthetic, write_binary};

const COMMIT: &str = "0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f";
const TRAIN: &str = "plain_text/train-00000-of-00001.parquet";
const TEST: &str = "plain_text/test-00000-of-00001.parquet";

fn from(variables: &[(&str, &str)]) -> Locations {
    let variables: HashMap<_, _> = variables.iter().copied().collect();
    Locations::from_variables(|name| variables.get(name).map(Into::into))
}

#[test]
fn the_cache_is_where_the_hubs_tools_have_it() {
    let cache = |variables: &[(&str, &str)]| from(variables).hub_cache;
    let path = |path: &str| Some(PathBuf::from(path));
    let home = ("HOME", "/home/me");
    assert_eq!(cache(&[]), None);
    assert_eq!(cache(&[home]), path("/home/me/.cache/huggingface/hub"));
    let xdg = ("XDG_CACHE_HOME", "/xdg");
    assert_eq!(cache(&[home, xdg]), path("/xdg/huggingface/hub"));
    let hf_home = ("HF_HOME", "~/hf");
    assert_eq!(cache(&[home, xdg, hf_home]), path("/home/me/hf/hub"));
    let hub_cache = ("HF_HUB_CACHE", "/cache");
    assert_eq!(cache(&[home, xdg, hf_home, hub_cache]), path("/cache"));
    // An empty variable counts as not set.
    assert_eq!(
        cache(&[home, ("HF_HOME", "")]),
        path("/home/me/.cache/huggingface/hub")
    );
}

#[test]
fn the_network_is_switched_off_as_the_hubs_tools_do_it() {
    for value in ["1", "ON", "yes", "True"] {
        assert!(from(&[("HF_HUB_OFFLINE", value)]).offline, "{value}");
    }
    for value in ["0", "off", "no", "", "2"] {
        assert!(!from(&[("HF_HUB_OFFLINE", value)]).offline, "{value}");
    }
    assert_eq!(from(&[]).endpoint, "https://huggingface.co");
    assert_eq!(
        from(&[("HF_ENDPOINT", "http://mirror/")]).endpoint,
        "http://mirror"
    );
}

#[test]
fn ir_data_may_hold_the_data_set_or_be_it() {
    let below = folder_of(&[
        ("binary10/data_batch_1.bin", "cifar10/data_batch_1.bin"),
        ("binary10/test_batch.bin", "cifar10/test_batch.bin"),
        ("binary100/train.bin", "cifar100/train.bin"),
        ("binary100/test.bin", "cifar100/test.bin"),
    ]);
    for (name, root) in [
        ("cifar10", below.path().to_path_buf()),
        ("cifar100", below.path().to_path_buf()),
        ("cifar10", fixture("parquet10")),
    ] {
        let locations = Locations {
            ir_data: Some(root),
            ..nowhere()
        };
        assert_eq!(Dataset::open(name, &locations).unwrap().name(), name);
    }
}

#[test]
fn drawn_images_are_not_taken_for_cifar() {
    let local = tempfile::tempdir().unwrap();
    let drawn = synthetic::dataset(synthetic::Classes::Ten, 0, 20, 10).unwrap();
    write_binary(&drawn, &local.path().join("synthetic10")).unwrap();
    let locations = Locations {
        local: Some(local.path().into()),
        ..nowhere()
    };
    let error = Dataset::open("cifar10", &locations).unwrap_err();
    assert!(matches!(error, Error::Offline { .. }), "{error:?}");

    // Real ones beside them, in the folder of the original archive, are found.
    for name in ["data_batch_1.bin", "test_batch.bin"] {
        let content = fs::read(fixture("binary10").join(name)).unwrap();
        put(&local.path().join("cifar-10-batches-bin"), name, &content);
    }
    let dataset = Dataset::open("cifar10", &locations).unwrap();
    assert_eq!(dataset.name(), "cifar10");
}

/// Puts fixtures into a cache as the hub's tools do: snapshots link to blobs.
fn fill_cache(cache: &Path, files: &[&str]) {
    let root = cache.join("datasets--uoft-cs--cifar10");
    put(&root, "refs/main", COMMIT.as_bytes());
    for file in files {
        let content = fs::read(fixture("parquet10").join(file)).unwrap();
        let link = root.join("snapshots").join(COMMIT).join(file);
        fs::create_dir_all(link.parent().unwrap()).unwrap();
        #[cfg(unix)]
        {
            let blob = file.replace('/', "-");
            put(&root.join("blobs"), &blob, &content);
            let target = Path::new("../../../blobs").join(blob);
            std::os::unix::fs::symlink(target, link).unwrap();
        }
        #[cfg(not(unix))]
        fs::write(link, content).unwrap();
    }
}

#[test]
fn what_python_has_fetched_is_found() {
    let cache = tempfile::tempdir().unwrap();
    fill_cache(cache.path(), &[TRAIN, TEST]);
    let locations = Locations {
        hub_cache: Some(cache.path().into()),
        ..nowhere()
    };
    let dataset = Dataset::open("cifar10", &locations).unwrap();
    assert_eq!(dataset.train().len(), 3);
    let folder = fetch(LabelSet::Cifar10, &locations, &mut |_| {}).unwrap();
    assert!(folder.ends_with("plain_text"), "{}", folder.display());
}

#[test]
fn offline_names_every_place_and_the_command() {
    let folder = tempfile::tempdir().unwrap();
    let cache = tempfile::tempdir().unwrap();
    fill_cache(cache.path(), &[TRAIN]);
    let locations = Locations {
        ir_data: Some(folder.path().into()),
        local: Some(folder.path().join("data")),
        hub_cache: Some(cache.path().into()),
        ..nowhere()
    };
    let error = Dataset::open("cifar10", &locations).unwrap_err();
    assert!(matches!(error, Error::Offline { .. }), "{error:?}");
    let message = error.to_string();
    let root = folder.path().display();
    assert_says(
        &message,
        &[
            &format!("{root}/cifar10 (no such folder)"),
            &format!("{root} (no such data)"),
            &format!("{root}/data (no such folder)"),
            &format!("snapshots/{COMMIT} (without the test split)"),
            "ir data fetch cifar10",
            "HF_HUB_OFFLINE",
        ],
    );
    let error = fetch(LabelSet::Cifar100, &locations, &mut |_| {}).unwrap_err();
    assert!(matches!(error, Error::Offline { .. }), "{error:?}");
}

#[test]
fn offline_without_any_place_to_look() {
    let error = Dataset::open("cifar100", &nowhere()).unwrap_err();
    assert!(matches!(error, Error::Offline { .. }), "{error:?}");
    let online = Locations {
        offline: false,
        ..nowhere()
    };
    let error = Dataset::open("cifar100", &online).unwrap_err();
    assert_says(&error.to_string(), &["HF_HOME", "no folder to put it in"]);
}

#[test]
fn a_damaged_file_is_not_replaced_from_the_network() {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "cifar10/data_batch_1.bin", b"half a batch");
    let locations = Locations {
        ir_data: Some(folder.path().into()),
        ..nowhere()
    };
    let error = Dataset::open("cifar10", &locations).unwrap_err();
    assert!(matches!(error, Error::Malformed { .. }), "{error:?}");
}

#[test]
fn other_files_in_the_data_folder_are_passed_over() {
    let local = tempfile::tempdir().unwrap();
    put(local.path(), "shakespeare/train.bin", b"to be or not to be");
    let locations = Locations {
        local: Some(local.path().into()),
        ..nowhere()
    };
    // Nothing else is there either: the file is named among the places.
    let error = Dataset::open("cifar10", &locations).unwrap_err();
    assert!(matches!(error, Error::Offline { .. }), "{error:?}");
    assert!(error.to_string().contains("train.bin"), "{error}");
}

#[test]
fn a_hub_that_cannot_be_reached_is_one_sentence() {
    let cache = tempfile::tempdir().unwrap();
    // A port that was free a moment ago, so nobody listens.
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let endpoint = format!("http://127.0.0.1:{port}");
    let locations = Locations {
        hub_cache: Some(cache.path().into()),
        endpoint: endpoint.clone(),
        offline: false,
        ..nowhere()
    };
    let error = Dataset::open("cifar10", &locations).unwrap_err();
    assert!(matches!(error, Error::Fetch { .. }), "{error:?}");
    assert_says(
        &error.to_string(),
        &["cannot fetch cifar10", &endpoint, "--data FOLDER"],
    );
}

#[test]
fn what_is_neither_folder_nor_name() {
    let error = Dataset::open("cifar-10", &nowhere()).unwrap_err();
    assert_says(&error.to_string(), &["`cifar-10`", "synthetic100"]);
}

/// What is wrong with a hub.
#[derive(Clone, Copy, PartialEq)]
enum Wrong {
    Nothing,
    /// One bit of each file.
    Content,
    /// Half of each answer is there.
    Cut,
    /// It announces files of a terabyte.
    Size,
    /// Its commit leads out of the cache.
    Commit,
    /// Its checksum leads out of the cache.
    Checksum,
    /// It has neither commit nor checksum.
    Headers,
    /// It leads to another address and does not say to which.
    Location,
}

/// Answers requests for the fixtures as the hub does: the file's address leads to another
/// one by a redirection, which carries the commit and the checksum.
fn serve(listener: &TcpListener, wrong: Wrong) {
    for stream in listener.incoming() {
        // A client may hang up early.
        let _ = answer(stream.unwrap(), wrong);
    }
}

fn answer(mut stream: TcpStream, wrong: Wrong) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let request = lines.next().unwrap()?;
    let headers: Vec<String> = lines
        .map_while(Result::ok)
        .take_while(|line| !line.is_empty())
        .map(|line| line.to_lowercase())
        .collect();
    let path = request.split(' ').nth(1).unwrap();
    let address = stream.local_addr()?;
    if let Some(file) = path.strip_prefix("/datasets/uoft-cs/cifar10/resolve/main/") {
        let etag = match wrong {
            Wrong::Checksum => "../../../../outside".into(),
            _ => sha256(&fs::read(fixture("parquet10").join(file))?),
        };
        let commit = match wrong {
            Wrong::Commit => "../../../../outside",
            _ => COMMIT,
        };
        let identity = match wrong {
            Wrong::Headers => String::new(),
            _ => format!("x-repo-commit: {commit}\r\nx-linked-etag: \"{etag}\"\r\n"),
        };
        let location = match wrong {
            Wrong::Location => String::new(),
            _ => format!("location: http://{address}/blob/{file}\r\n"),
        };
        return write!(
            stream,
            "HTTP/1.1 302 Found\r\n{location}{identity}\
             content-length: 0\r\nconnection: close\r\n\r\n"
        );
    }
    let file = path.strip_prefix("/blob/").unwrap();
    let content = fs::read(fixture("parquet10").join(file))?;
    let range = headers
        .iter()
        .find_map(|line| line.strip_prefix("range: bytes="));
    let (first, last) = range.unwrap().split_once('-').unwrap();
    let first: usize = first.parse().unwrap();
    let last = last.parse().unwrap_or(content.len() - 1);
    let mut body = content[first..=last].to_vec();
    let mut total = content.len();
    match wrong {
        Wrong::Content => body[0] ^= 1,
        Wrong::Size => total = 1 << 40,
        _ => {}
    }
    write!(
        stream,
        "HTTP/1.1 206 Partial Content\r\ncontent-range: bytes {first}-{last}/{total}\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    )?;
    if wrong == Wrong::Cut && first == 0 {
        body.truncate(body.len() / 2);
    }
    stream.write_all(&body)
}

fn sha256(content: &[u8]) -> String {
    use sha2::{Digest, Sha256};
    let digest = Sha256::digest(content);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn with_hub(wrong: Wrong, cache: &Path) -> Locations {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || serve(&listener, wrong));
    Locations {
        hub_cache: Some(cache.into()),
        endpoint,
        offline: false,
        ..nowhere()
    }
}

#[test]
fn a_named_data_set_is_fetched_and_then_found() {
    let cache = tempfile::tempdir().unwrap();
    let locations = with_hub(Wrong::Nothing, cache.path());
    let mut last = None;
    fetch(LabelSet::Cifar10, &locations, &mut |progress| {
        last = Some(progress.clone());
    })
    .unwrap();
    let last = last.unwrap();
    assert_eq!(last.file, TEST);
    assert_eq!(
        (last.done, last.total),
        (
            last.total,
            fs::metadata(fixture("parquet10").join(TEST)).unwrap().len()
        )
    );

    let offline = Locations {
        offline: true,
        ..locations
    };
    let dataset = Dataset::open("cifar10", &offline).unwrap();
    assert_eq!((dataset.train().len(), dataset.test().len()), (3, 2));
}

#[test]
fn opening_a_name_fetches_it() {
    let cache = tempfile::tempdir().unwrap();
    let dataset = Dataset::open("cifar10", &with_hub(Wrong::Nothing, cache.path())).unwrap();
    assert_eq!((dataset.train().len(), dataset.test().len()), (3, 2));
}

#[test]
fn a_damaged_transfer_is_refused_and_not_kept() {
    let cache = tempfile::tempdir().unwrap();
    let error = fetch(
        LabelSet::Cifar10,
        &with_hub(Wrong::Content, cache.path()),
        &mut |_| {},
    )
    .unwrap_err();
    assert_says(
        &error.to_string(),
        &["expected the checksum", "fetch again"],
    );
    let fetched = fetch(
        LabelSet::Cifar10,
        &with_hub(Wrong::Nothing, cache.path()),
        &mut |_| {},
    );
    assert!(fetched.is_ok(), "{fetched:?}");
}

#[test]
fn a_transfer_that_was_cut_goes_on_where_it_was() {
    let cache = tempfile::tempdir().unwrap();
    let mut done = Vec::new();
    let fetched = fetch(
        LabelSet::Cifar10,
        &with_hub(Wrong::Cut, cache.path()),
        &mut |progress| {
            if progress.file == TRAIN {
                done.push(progress.done);
            }
        },
    );
    assert!(fetched.is_ok(), "{fetched:?}");
    assert!(done.is_sorted(), "{done:?}");
}

#[test]
fn a_partial_file_with_nothing_left_to_fetch_is_not_in_the_way() {
    let whole = fs::read(fixture("parquet10").join(TRAIN)).unwrap();
    for extra in [0, 7] {
        let cache = tempfile::tempdir().unwrap();
        let partial = format!("datasets--uoft-cs--cifar10/blobs/{}.part", sha256(&whole));
        let content = vec![0; whole.len() + extra];
        put(cache.path(), &partial, &content);
        let dataset = Dataset::open("cifar10", &with_hub(Wrong::Nothing, cache.path())).unwrap();
        assert_eq!((dataset.train().len(), dataset.test().len()), (3, 2));
    }
}

#[test]
fn a_link_that_leads_nowhere_is_fetched_again() {
    let cache = tempfile::tempdir().unwrap();
    fill_cache(cache.path(), &[TRAIN, TEST]);
    let blobs = cache.path().join("datasets--uoft-cs--cifar10/blobs");
    for blob in fs::read_dir(&blobs).unwrap() {
        fs::remove_file(blob.unwrap().path()).unwrap();
    }
    let dataset = Dataset::open("cifar10", &with_hub(Wrong::Nothing, cache.path())).unwrap();
    assert_eq!((dataset.train().len(), dataset.test().len()), (3, 2));
}

#[test]
fn a_hub_cannot_write_where_it_wants() {
    for (wrong, said) in [
        (
            Wrong::Commit,
            "expected a commit of 40 hexadecimal digits, found \"../../../../outside\"",
        ),
        (
            Wrong::Checksum,
            "expected a checksum of 40 or 64 hexadecimal digits, found \"../../../../outside\"",
        ),
        (Wrong::Headers, "Header etag is missing"),
        (
            Wrong::Location,
            "an answer of the hub that hf-hub cannot take (location header in redirect",
        ),
        (Wrong::Size, "expected a size of at most 1073741824 bytes"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let cache = folder.path().join("a/b/c/d/cache");
        let fetched = fetch(LabelSet::Cifar10, &with_hub(wrong, &cache), &mut |_| {});
        assert_says(&fetched.unwrap_err().to_string(), &[said]);
        assert!(!folder.path().join("a/outside").exists());
        let entries = fs::read_dir(folder.path()).unwrap().count();
        assert!(entries <= 1, "{entries}");
    }
}
