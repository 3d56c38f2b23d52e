//! NVIDIA's error numbers (Xid), each with what it means for the GPU, as data.

use super::Config;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// The GPU cannot be trusted until it was reset: it is set aside, and its job ends.
    Fatal,
    /// The program's own doing: told to it.
    Application,
    /// For the operator to know.
    Informational,
}

use Class::{Application, Fatal, Informational};

/// By number.
const TABLE: [(u32, Class, &str); 41] = [
    (8, Application, "a channel did not make progress"),
    (13, Application, "the program made the graphics engine fail: an address out of range, most often"),
    (31, Application, "the program used memory that is not its own (page fault)"),
    (32, Application, "the program's commands were corrupted on the way"),
    (38, Fatal, "the GPU's firmware failed"),
    (43, Application, "the program stopped working on the GPU"),
    (44, Application, "the graphics engine failed during a context switch"),
    (45, Application, "the program was taken off the GPU after an earlier error"),
    (46, Fatal, "the GPU stopped processing"),
    (48, Fatal, "an ECC error that could not be corrected"),
    (54, Fatal, "the auxiliary power is not connected"),
    (56, Informational, "the display engine failed"),
    (57, Informational, "the display engine failed"),
    (61, Fatal, "an internal micro-controller stopped at a breakpoint"),
    (62, Fatal, "an internal micro-controller halted"),
    (63, Informational, "a row of memory was put on the list to be replaced"),
    (64, Fatal, "a row of memory could not be replaced"),
    (66, Application, "the driver refused what the program asked for"),
    (68, Application, "the video decoder failed"),
    (69, Application, "the program made the graphics engine fail"),
    (74, Fatal, "an NVLink failed"),
    (78, Fatal, "the virtual GPU could not be started"),
    (79, Fatal, "the GPU has fallen off the bus"),
    (81, Informational, "VGA failed"),
    (92, Informational, "many ECC errors were corrected"),
    (94, Application, "an ECC error was kept within the program, which cannot go on"),
    (95, Fatal, "an ECC error could not be kept within one program"),
    (109, Fatal, "a context switch did not end"),
    (110, Fatal, "a security fault"),
    (119, Fatal, "the GPU's system processor did not answer"),
    (120, Fatal, "the GPU's system processor failed"),
    (121, Informational, "an error on the link to the CPU was corrected"),
    (122, Informational, "the GPU's ROM could not be read"),
    (123, Informational, "the GPU's power unit could not be asked"),
    (136, Fatal, "an NVLink could not be trained"),
    (137, Application, "the program used an NVLink address that is not there"),
    (140, Fatal, "an ECC error that was not recovered from"),
    (143, Fatal, "the GPU could not be initialised"),
    (149, Fatal, "an NVLink failed and needs a reset"),
    (154, Informational, "what it takes to recover the GPU has changed"),
    (155, Informational, "NVLink changed its state"),
];

pub(super) fn class(code: u32, config: &Config) -> Class {
    if config.ignored_xids.contains(&code) {
        return Informational;
    }
    if config.fatal_xids.contains(&code) {
        return Fatal;
    }
    row(code).map_or(Informational, |(class, _)| class)
}

/// `Xid 79: the GPU has fallen off the bus`
pub(super) fn told(code: u32) -> String {
    let sentence = row(code).map_or("an error that is not in the table", |(_, sentence)| sentence);
    format!("Xid {code}: {sentence}")
}

fn row(code: u32) -> Option<(Class, &'static str)> {
    let place = TABLE.binary_search_by_key(&code, |(code, ..)| *code).ok()?;
    let (_, class, sentence) = TABLE[place];
    Some((class, sentence))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_order_and_says_something() {
        assert!(TABLE.is_sorted_by(|(one, ..), (next, ..)| one < next));
        assert!(TABLE.iter().all(|(_, _, sentence)| !sentence.is_empty() && !sentence.ends_with('.')));
    }

    #[test]
    fn the_operator_has_the_last_word() {
        let config = Config::default();
        assert_eq!(
            [79, 31, 63, 7777].map(|code| class(code, &config)),
            [Fatal, Application, Informational, Informational]
        );
        let own = Config { fatal_xids: vec![31, 7777], ignored_xids: vec![79], ..config };
        assert_eq!([79, 31, 7777].map(|code| class(code, &own)), [Informational, Fatal, Fatal]);
        assert_eq!(told(79), "Xid 79: the GPU has fallen off the bus");
        assert!(told(7777).starts_with("Xid 7777: "));
    }
}
