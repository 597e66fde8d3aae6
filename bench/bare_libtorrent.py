"""A bare libtorrent download with the settings of our own session: what the resolver's fetching is measured against.

usage: bare_libtorrent.py RELEASE.torrent HOST PORT FOLDER — downloads only the .tgz, exits when it is there.
"""

from __future__ import annotations

import sys

import libtorrent as lt

from libreseed.adapters.torrent.settings import SessionOptions, session_settings


def main() -> None:
    torrent, host, port, folder = sys.argv[1:]
    session = lt.session(session_settings_for(host))
    add = lt.load_torrent_file(torrent)
    add.save_path = folder
    files = add.ti.layout() if hasattr(add.ti, "layout") else add.ti.files()
    add.file_priorities = [4 if files.file_path(i).endswith(".tgz") else 0 for i in range(files.num_files())]
    add.flags &= ~lt.torrent_flags.auto_managed & ~lt.torrent_flags.paused
    add.flags |= lt.torrent_flags.no_verify_files
    add.peers = [(host, int(port))]  # connect_peer() would wait for the next second, and flatter us
    session.add_torrent(add)
    while True:
        session.wait_for_alert(1000)
        for alert in session.pop_alerts():
            if isinstance(alert, (lt.torrent_finished_alert, lt.torrent_error_alert)):
                print(type(alert).__name__)
                return


def session_settings_for(host: str) -> dict[str, object]:
    settings = dict(session_settings(SessionOptions(listen=((host, 0),))))
    settings["alert_mask"] = int(lt.alert.category_t.error_notification | lt.alert.category_t.status_notification)
    return settings


if __name__ == "__main__":
    main()
