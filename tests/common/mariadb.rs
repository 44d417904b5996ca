//! A real MariaDB for tests.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A MariaDB without network and grants on a folder of its own; ends with the test.
pub struct Server {
    child: Child,
    home: TempDir,
}

impl Server {
    pub fn start(datadir: &Path) -> Server {
        let home = tempfile::tempdir().expect("a folder");
        let child = Command::new("/usr/sbin/mariadbd")
            .args(["--no-defaults", "--user=root", "--skip-networking", "--skip-grant-tables", "--skip-log-bin", "--innodb=OFF"])
            .args(["--default-storage-engine=MyISAM".into(), format!("--datadir={}", datadir.display())])
            // Servers that start remove what others have in a folder that they share.
            .arg(format!("--tmpdir={}", home.path().display()))
            .args([format!("--socket={}/sock", home.path().display()), format!("--pid-file={}/pid", home.path().display())])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(home.path().join("log")).expect("a log"))
            .spawn()
            .expect("mariadbd runs");
        let server = Server { child, home };
        let end = Instant::now() + Duration::from_secs(30);
        while !server.client("SELECT 1").status.success() {
            let log = || fs::read_to_string(server.home.path().join("log"));
            assert!(Instant::now() < end, "MariaDB did not start: {:?}", log());
            std::thread::sleep(Duration::from_millis(30));
        }
        server
    }

    pub fn client(&self, sql: &str) -> Output {
        let socket = format!("--socket={}/sock", self.home.path().display());
        Command::new("mariadb").args(["--no-defaults", &socket, "-N", "-B", "-e", sql]).output().expect("mariadb runs")
    }

    pub fn ask(&self, sql: &str) -> Vec<String> {
        let output = self.client(sql);
        assert!(output.status.success(), "{sql}: {}", text(&output.stderr));
        text(&output.stdout).lines().map(str::to_owned).collect()
    }

    pub fn sum(&self, table: &str) -> String {
        self.ask(&format!("CHECKSUM TABLE mail.{table}"))[0].split('\t').next_back().expect("a sum").to_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Cleanly, so that all is written.
        let stopped = self.client("SHUTDOWN").status.success();
        let end = Instant::now() + Duration::from_secs(20);
        while stopped && Instant::now() < end && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a program said.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
