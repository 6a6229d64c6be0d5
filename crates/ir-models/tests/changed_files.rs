//! What happens to an opened checkpoint when its file changes: nothing. Its tensors were copied and
//! its map is gone.

use std::fs::{self, OpenOptions};

use ir_models::{Architecture, Checkpoint, DataDescription, ResNet};

#[test]
fn an_opened_checkpoint_is_what_it_was_whatever_becomes_of_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("network");
    let architecture = Architecture::named("resnet-32", 10).unwrap();
    let network = ResNet::initialize(&architecture, 0).unwrap();
    let values = |network: &ResNet| -> Vec<Vec<f32>> {
        let tensors = network.tensors();
        tensors
            .map(|(_, tensor)| tensor.flatten_all().unwrap().to_vec1().unwrap())
            .collect()
    };
    let changes: [fn(&std::path::Path); 3] = [
        // A file that is still mapped would end the process here, with SIGBUS.
        |path| {
            let file = OpenOptions::new().write(true).open(path).unwrap();
            file.set_len(100).unwrap();
        },
        |path| fs::write(path, vec![0xff; 4_000_000]).unwrap(),
        |path| fs::remove_file(path).unwrap(),
    ];
    for change in changes {
        Checkpoint::save_network(&path, &network, &DataDescription::default()).unwrap();
        let checkpoint = Checkpoint::open(&path).unwrap();
        change(&path);
        let read = checkpoint.network().unwrap();
        assert!(values(&read) == values(&network));
    }
}
