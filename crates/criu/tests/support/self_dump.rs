//! A process that dumps itself over CRIU's service, and tells what came back.
//!
//! ```text
//! self-dump SOCKET IMAGES FILE
//! ```
//!
//! `dumped`, and `restored` when it has been brought back, are appended to FILE as lines. Then it
//! ends.

use std::{env, fs, io::Write as _, path::PathBuf};

use stasis_criu::{Criu, Options};

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut paths = env::args().skip(1).map(PathBuf::from);
    let mut path = || paths.next().unwrap();
    let criu = Criu::over_service(path());
    let options = Options::new(path()).leave_running(true);
    let file = path();
    let word = match criu.dump_self(&options).await {
        Ok(dumped) if dumped.restored => String::from("restored"),
        Ok(_) => String::from("dumped"),
        Err(error) => format!("{error:?}"),
    };
    let mut file = fs::File::options().append(true).open(file).unwrap();
    writeln!(file, "{word}").unwrap();
}
