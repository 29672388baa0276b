//! Settings of a manager and of the commands that ask it, from files, the environment and the command line.

use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use super::Managed;
use crate::support::Place;

/// What `config show` says of a setting: its values, and where they come from.
fn setting(all: &Value, section: &str, name: &str) -> (Vec<String>, String) {
    let found = all.as_array().unwrap().iter().find(|it| it["section"] == section && it["name"] == name).unwrap();
    let values = found["values"].as_array().unwrap().iter().map(|value| value.as_str().unwrap().to_owned()).collect();
    (values, found["origin"].as_str().unwrap().to_owned())
}

#[test]
fn the_nearest_setting_counts_and_what_is_unknown_is_said() {
    let place = Place::new();
    let home = place.folder().to_str().unwrap().to_owned();
    place.write(
        "home/.config/riverrun/config.toml",
        "[client]\nserver = \"http://127.0.0.1:3\"\n\n[serve]\nstop-within = \"7s\"\n",
    );
    place.write("riverrun.toml", "# Of a manager that is started here.\n\n[serve]\nlisten = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\ndata = \"manager\"\n");
    place.write("named.toml", "[serve]\nallow-host = [\"a:1\", \"b:2\"]\nstop-jobs = true\n");
    let show = |arguments: &[&str]| {
        let command = place.riverrun(&["config", "show", "--origin", "-o", "json"]).args(arguments);
        command.env("HOME", format!("{home}/home")).env("XDG_CONFIG_HOME", "")
    };
    let all = show(&["--config", "named.toml"]).env("RIVERRUN_ADMIN", "127.0.0.1:7").succeed().document();
    for (section, name, value, origin) in [
        ("serve", "listen", "127.0.0.1:0", "riverrun.toml:4"),
        ("serve", "admin", "127.0.0.1:7", "RIVERRUN_ADMIN"),
        ("serve", "stop-jobs", "true", "named.toml:3"),
        ("serve", "healthy-within", "5m", "default"),
    ] {
        assert_eq!(setting(&all, section, name), (vec![value.to_owned()], origin.to_owned()), "{section} {name}");
    }
    assert_eq!(setting(&all, "serve", "allow-host").0, ["a:1", "b:2"]);
    let (server, from) = setting(&all, "client", "server");
    assert!(server == ["http://127.0.0.1:3"] && from.ends_with("/.config/riverrun/config.toml:2"), "{from}");
    let (stop, from) = setting(&all, "serve", "stop-within");
    assert!(stop == ["7s"] && from.ends_with("/.config/riverrun/config.toml:5"), "{from}");

    // A folder of them: the last by name counts most, a file that is named counts more, and nothing else in it is read.
    place.write(
        "conf.d/10-base.toml",
        "[serve]\nlisten = \"127.0.0.1:10\"\nstop-within = \"10s\"\nadmin = \"127.0.0.1:10\"\n",
    );
    place.write("conf.d/90-more.toml", "[serve]\nlisten = \"127.0.0.1:90\"\nstop-jobs = false\n");
    place.write("conf.d/README", "this is none");
    let all = show(&["--config", "named.toml", "--config-dir", "conf.d"]).succeed().document();
    for (name, value, origin) in [
        ("listen", "127.0.0.1:90", "conf.d/90-more.toml:2"),
        ("stop-within", "10s", "conf.d/10-base.toml:3"),
        ("stop-jobs", "true", "named.toml:3"),
        ("data", "manager", "riverrun.toml:6"),
    ] {
        assert_eq!(setting(&all, "serve", name), (vec![value.to_owned()], origin.to_owned()), "{name}");
    }
    let named = show(&[]).env("RIVERRUN_CONFIG_DIR", "conf.d").succeed().document();
    assert_eq!(setting(&named, "serve", "listen").0, ["127.0.0.1:90"]);
    show(&["--config-dir", "none.d"]).fail(78, &["none.d"]);
    place.write("conf.d/50-wrong.toml", "[serve]\nlisen = \"x\"\n");
    show(&["--config-dir", "conf.d"]).fail(78, &["conf.d/50-wrong.toml:2", "did you mean `listen`?"]);

    // A manager is started by it, and asked.
    place.write("named.toml", "[serve]\nlisen = \"x\"\n");
    show(&["--config", "named.toml"]).fail(78, &["`lisen`", "named.toml:2", "did you mean `listen`?"]);
    place.riverrun(&["list", "--config", "none.toml"]).fail(78, &["none.toml"]);
    let list = || place.riverrun(&["list"]).env("HOME", format!("{home}/home"));
    list().fail(7, &["http://127.0.0.1:3"]);
    list().env("RIVERRUN_SERVER", "http://127.0.0.1:1").fail(7, &["http://127.0.0.1:1"]);
    list()
        .args(&["--server", "http://127.0.0.1:2"])
        .env("RIVERRUN_SERVER", "http://127.0.0.1:1")
        .fail(7, &["127.0.0.1:2"]);
    // What runs jobs here reads none of it.
    place.write("riverrun.toml", "nonsense");
    list().fail(78, &["riverrun.toml:1"]);
    place.riverrun(&["new", "attribution"]).succeed();
    // Whom a key is shown is not for others to say: not for who wrote what lies here, unless it is named.
    let key = place.path("key").to_str().unwrap().to_owned();
    for (name, value) in [("server", "http://127.0.0.1:4"), ("api-key-file", key.as_str()), ("server-ca", "ca.pem")] {
        place.write("riverrun.toml", format!("[client]\n{name} = \"{value}\"\n"));
        let said = [&format!("`{name}`")[..], "riverrun.toml:2", "--config riverrun.toml", "~/.config"];
        list().fail(78, &said);
        show(&[]).fail(78, &said);
    }
    place.write("riverrun.toml", "[client]\nserver = \"http://127.0.0.1:4\"\n");
    list().args(&["--config", "./riverrun.toml"]).fail(7, &["http://127.0.0.1:4"]);
    place.write("riverrun.toml", "[serve]\nlisten = \"0.0.0.0:1\"\n");
    std::fs::set_permissions(place.path("riverrun.toml"), std::fs::Permissions::from_mode(0o666)).unwrap();
    list().fail(78, &["riverrun.toml", "--config"]);
}

#[test]
fn a_manager_starts_as_its_file_says() {
    let place = Place::new();
    place.write("riverrun.toml", "[serve]\nstop-within = \"3s\"\nallow-host = [\"127.0.0.1\"]\n");
    let managed = Managed::at(place, &[]);
    managed.place.write("client.toml", format!("[client]\nserver = \"{}\"\n", managed.server()));
    let listed = managed.place.riverrun(&["list", "-o", "json", "--config", "client.toml"]).succeed().document();
    assert_eq!(listed["jobs"], serde_json::json!([]));
    // And says how it was set up, and by whom.
    let shown = super::http(&managed.address(), "GET", "/api/v1/config", "", "").2;
    let shown: Value = serde_json::from_str(&shown).unwrap();
    for (name, value, origin) in [
        ("allow-host", "127.0.0.1", "riverrun.toml:3"),
        ("stop-within", "4m", "--stop-within"),
        ("data", "manager", "--data"),
        ("healthy-within", "5m", "default"),
    ] {
        assert_eq!(setting(&shown["settings"], "serve", name), (vec![value.to_owned()], origin.to_owned()), "{name}");
    }
}
