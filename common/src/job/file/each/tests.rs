use super::*;
use crate::job::{Input, JobSpec, When};

const TEMPLATE: &str =
    "image: alpine:3\nenv: {A: kept, B: old}\ninputs: {d: {dir: ../data}}\nresources: {memory: 1GiB}\n";

fn template(text: &str) -> Template {
    Template::parse(text, "job.yaml", Path::new("jobs")).expect("one document")
}

fn csv(table: &str) -> Result<Vec<JobFile>, Vec<String>> {
    made(TEMPLATE, table.as_bytes(), Form::Csv)
}

fn lines(table: &str) -> Result<Vec<JobFile>, Vec<String>> {
    made(TEMPLATE, table.as_bytes(), Form::JsonLines)
}

fn made(text: &str, table: &[u8], form: Form) -> Result<Vec<JobFile>, Vec<String>> {
    each(&template(text), table, form, "runs/t.csv")
        .map(|rows| rows.into_iter().map(|row| row.job).collect())
        .map_err(|error| error.to_string().lines().map(str::to_owned).collect())
}

#[test]
fn each_row_changes_the_job_where_its_columns_say() {
    let jobs = csv("env.B,inputs.d,resources.memory,priority,after,env.RUN\n\
         1,job:k3m9q2xw/ckpt,2GiB,5,\"abcdefgh:failed, train\",x\n\
         ,,,,,\"a, \"\"b\"\"\nc\"\n\
         true,./here,512MiB,-3,,y\n")
    .expect("three jobs");
    let spec = &jobs[0].spec;
    assert_eq!((spec.env["A"].as_str(), spec.env["B"].as_str()), ("kept", "1"));
    assert_eq!(spec.inputs["d"], Input::Job { job: "k3m9q2xw".into(), path: "ckpt".into() });
    assert_eq!((spec.resources.memory_bytes, spec.priority), (2 << 30, 5));
    let after: Vec<_> = spec.after.iter().map(|after| (after.job.as_str(), after.when)).collect();
    assert_eq!(after, [("abcdefgh", When::Failed), ("train", When::Succeeded)]);
    // Empty cells leave what the job says, and a folder begins where it was written.
    assert_eq!((jobs[1].spec.env["B"].as_str(), jobs[1].spec.priority), ("old", 0));
    assert_eq!(jobs[1].spec.env["RUN"], "a, \"b\"\nc");
    assert_eq!(jobs[1].folders["d"], Path::new("jobs/../data"));
    assert_eq!(jobs[2].folders["d"], Path::new("runs/./here"));
    assert_eq!(jobs[2].spec.env["B"], "true", "a cell is a text");
}

#[test]
fn lines_of_json_are_rows_too_and_keep_their_types() {
    let jobs = lines(
        "{\"env\": {\"B\": \"x\"}, \"inputs\": {\"d\": {\"url\": \"https://a.example/b\"}}}\r\n\n\
         {\"env.B\": 7, \"command\": [\"sh\", \"-c\", \"a, b\"], \"resources\": {\"gpu\": {\"count\": 2}}, \"name\": null}\n",
    )
    .expect("two jobs");
    assert_eq!((jobs[0].spec.env["A"].as_str(), jobs[0].spec.env["B"].as_str()), ("kept", "x"));
    assert_eq!(jobs[0].spec.inputs["d"], Input::Url { url: "https://a.example/b".into() });
    assert_eq!(jobs[1].spec.command.as_deref(), Some(&["sh", "-c", "a, b"].map(str::to_owned)[..]));
    assert_eq!((jobs[1].spec.resources.gpu_count(), jobs[1].spec.env["B"].as_str()), (2, "7"));
    assert!(lines("{\"env.B\": 0.1}\n").expect_err("a bare fraction")[0].contains("quote it"));
}

#[test]
fn all_mistakes_of_all_rows_are_told_with_line_and_column() {
    let found =
        csv("env.B,resources.memory,priority\n1,lots,3\n\"two\nlines\",2GiB,x\n3,2GiB,101\n4,huge,y,z\n")
            .expect_err("wrong");
    assert_eq!(found, ["runs/t.csv:6: has 4 cells, and the header has 3"], "first what is no table");
    let found =
        csv("env.B,resources.memory,priority\n1,lots,3\n\"two\nlines\",2GiB,x\n3,2GiB,101\n4,lots,0\n")
            .expect_err("wrong");
    assert_eq!(found.len(), 3, "{found:#?}");
    assert!(
        found[0].starts_with("runs/t.csv:2: resources.memory: ") && found[0].ends_with("(and in 1 more row)")
    );
    assert!(found[1].starts_with("runs/t.csv:3: priority: `x` is not a whole number"), "{found:#?}");
    assert!(found[2].starts_with("runs/t.csv:5: priority: "), "{found:#?}");
}

#[test]
fn columns_that_mean_nothing_are_told_once() {
    for (table, says) in [
        ("LR\n0.1\n", "runs/t.csv: LR: is no field of a job; a variable is `env.LR`, an input `inputs.LR`"),
        ("imagee\nx\n", "did you mean `image`?"),
        ("kind\njob\n", "is the same for all rows"),
        ("action\nx\n", "is the same for all rows"),
        ("env.A,env.A\n1,2\n", "runs/t.csv:1: env.A: is there twice"),
        ("env.A,\n1,2\n", "runs/t.csv:1: column 2 has no name"),
        ("env.A;env.B\n1;2\n", "write commas"),
        ("resources.mem\n1GiB\n2GiB\n", "(and in 1 more row)"),
        ("set.X\n1\n", "goes with `action: NAME`"),
        ("inputs.d\ns3://a/b\n", "runs/t.csv:2: inputs.d: `s3://a/b`: s3:// is not available"),
        ("env.A\n\n", "holds no rows"),
        ("env.A,env.B\n1,2\n,\n", "runs/t.csv:3: sets nothing"),
        ("", "is empty"),
    ] {
        let found = csv(table).expect_err(table);
        assert!(found.len() == 1 && found[0].contains(says), "{table}: {found:#?}");
    }
    for (table, says) in [
        ("{\"env.B\": 1\n", "runs/t.csv:1: EOF while parsing"),
        ("[1]\n", "is no object"),
        ("{\"env.B\": 1, \"env\": {\"B\": 2}}\n", "runs/t.csv:1: env.B: is there twice"),
        ("{\"name\": 1, \"name\": 2}\n", "`name` is there twice"),
        ("\n \n", "holds no rows"),
    ] {
        let found = lines(table).expect_err(table);
        assert!(found.len() == 1 && found[0].contains(says), "{table}: {found:#?}");
    }
}

#[test]
fn files_of_other_systems_are_read_or_named() {
    let jobs =
        made(TEMPLATE, b"\xef\xbb\xbfenv.B,priority\r\n1,2\r\n3,4\r\n", Form::Csv).expect("a mark and CRLF");
    assert_eq!((jobs.len(), jobs[1].spec.env["B"].as_str()), (2, "3"));
    let found = made(TEMPLATE, b"env.B,name\n1,gr\xfcn\n", Form::Csv).expect_err("Latin-1");
    assert_eq!(found, ["runs/t.csv:2: name: is not UTF-8; save the file as UTF-8"]);
    let found = made(TEMPLATE, b"\xff\xfee\0n\0v\0", Form::Csv).expect_err("UTF-16");
    assert!(found[0].contains("UTF-16"), "{found:?}");
    assert_eq!(Form::of("a/B.CSV", b""), Some(Form::Csv));
    assert_eq!(Form::of("b.ndjson", b""), Some(Form::JsonLines));
    assert_eq!((Form::of("-", b"\n {"), Form::of("-", b"env.A")), (Some(Form::JsonLines), Some(Form::Csv)));
    assert_eq!(Form::of("b.txt", b""), None);
}

#[test]
fn a_table_has_an_end() {
    let table = |rows: usize| format!("env.B\n{}", "1\n".repeat(rows));
    assert_eq!(csv(&table(MOST_ROWS)).expect("as many as may be").len(), MOST_ROWS);
    let found = csv(&table(MOST_ROWS + 1)).expect_err("one too many");
    assert!(found[0].contains("more than 10000 rows"), "{found:?}");
}

#[test]
fn parameters_of_an_action_are_columns_of_their_own_names() {
    let text = "action: convert@3\nset: {FORMAT: mkv}\nresources: {memory: 1GiB}\n";
    let jobs = made(text, b"FORMAT,set.EPOCHS,name\nmp4,030,first\n,7,\n", Form::Csv).expect("two runs");
    let run = jobs[0].action.as_ref().expect("a run");
    assert_eq!((run.set["FORMAT"].as_str(), run.set["EPOCHS"].as_str()), ("mp4", "030"));
    assert!(run.said.contains("name") && run.said.contains("resources.memory"), "{:?}", run.said);
    let second = jobs[1].action.as_ref().expect("a run");
    assert_eq!(second.set["FORMAT"], "mkv");
    assert!(!second.said.contains("name"));
}

#[test]
fn a_job_of_flags_is_a_template_as_its_file_would_be() {
    let mut spec = JobSpec::for_image("alpine");
    spec.env.insert("A.B".into(), "x".into());
    spec.not_before = Some(crate::clock::Timestamp::from_micros(1_900_000_000_000_000));
    spec.inputs.insert("s".into(), Input::Job { job: "abcdefgh".into(), path: String::new() });
    let folders = [("d".to_owned(), PathBuf::from("here"))].into();
    let job = JobFile { spec: spec.clone(), action: None, folders };
    let made = each(&Template::of(&job), b"env.C\n1\n", Form::Csv, "t.csv").expect("one job");
    spec.env.insert("C".into(), "1".into());
    assert_eq!((&made[0].job.spec, &made[0].job.folders["d"]), (&spec, &PathBuf::from("here")));
    // A limit that was said is said though it is the default.
    let said: BTreeSet<_> = ["resources.memory".to_owned()].into();
    let action = crate::action::Invocation {
        action: "convert".parse().expect("a name"),
        set: [("X".to_owned(), "1".to_owned())].into(),
        said,
    };
    let mut spec = JobSpec::for_image("");
    spec.inputs.insert("s".into(), Input::Job { job: "abcdefgh".into(), path: String::new() });
    let job = JobFile { spec, action: Some(action), folders: [].into() };
    let made = each(&Template::of(&job), b"X,Y\n2,3\n", Form::Csv, "t.csv").expect("one run");
    let run = made[0].job.action.as_ref().expect("a run");
    assert!(run.said.contains("resources.memory") && run.set["X"] == "2" && run.set["Y"] == "3", "{run:?}");
    assert!(made[0].job.spec.inputs.contains_key("s"));
}

#[test]
fn a_template_is_one_document() {
    let error = Template::parse("image: a\n---\nimage: b\n", "j.yaml", Path::new("")).expect_err("two");
    assert!(error.to_string().contains("j.yaml: holds 2 jobs"), "{error}");
    assert!(Template::parse("", "j.yaml", Path::new("")).is_err());
}

#[test]
fn lines_are_those_of_an_editor_whatever_ends_them() {
    for (table, line) in [
        ("env.B,priority\r\n1,x\r\n", 2),
        ("env.B,priority\r\n1,2\r\n\r\n\r\n3,x\r\n", 5),
        ("env.B,priority\n1,2\n\n3,x", 4),
        ("\n\nenv.B,priority\n\"two\nlines\",1\n2,x\n", 6),
    ] {
        let told = csv(table).expect_err("no number");
        assert!(told[0].contains(&format!("t.csv:{line}: priority")), "{table:?}: {told:?}");
    }
}

#[test]
fn a_quote_that_is_not_closed_swallows_no_rows() {
    for table in ["env.A,env.B\n1,\"oops\n2,b\n3,c\n", "env.A,env.B\n1,a\n2,\"x \"\"y\"\"\n3,c\n"] {
        let told = csv(table).expect_err("one cell");
        assert!(told.iter().any(|line| line.contains("is not closed")), "{told:?}");
    }
    let jobs = csv("env.A,env.B\n1,a 5\" disk\n2,\"a, \"\"b\"\"\"\n").expect("two jobs");
    assert_eq!(jobs[0].spec.env["B"], "a 5\" disk");
    assert_eq!(jobs[1].spec.env["B"], "a, \"b\"");
}
