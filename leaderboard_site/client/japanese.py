"""The program's sentences in Japanese. A test compares the keys with the sentences in the code."""

from __future__ import annotations

JAPANESE = {
    # Statuses and columns
    "pending": "待機中",
    "running": "実行中",
    "completed": "完了",
    "failed": "失敗",
    "cancelled": "キャンセル済み",
    "trial": "お試し",
    "job": "ジョブ",
    "submission": "提出物",
    "status": "状態",
    "leaderboard": "リーダーボード",
    "score": "スコア",
    "created": "作成日時",
    "name": "名前",
    "entrypoint": "エントリーポイント",
    # Help
    "Submit code to a LeadersBoard site and follow its run.": "LeadersBoardにコードを提出し、実行を見守ります。",
    "usage: ": "使い方： ",
    "arguments": "引数",
    "options": "オプション",
    "site and output": "サイトと出力",
    "COMMAND": "コマンド",
    "commands": "コマンド",
    "examples:": "例：",
    "exit codes:": "終了コード：",
    "completed (with --no-follow: enqueued), or done": "完了（--no-followではジョブの登録まで）",
    "the run ended otherwise": "実行が完了せずに終わった",
    "wrong usage, or a PATH that cannot be sent": "使い方の誤り、または送信できないPATH",
    "the site refused": "サイトが受け付けなかった",
    "the site did not answer": "サイトが応答しなかった",
    "a fault of this machine: an unreadable file, a full disk": "このマシンの問題（読めないファイル、ディスクの空き不足など）",
    "a fault of this program": "このプログラムの不具合",
    "Ctrl-C; the job goes on": "Ctrl-C（ジョブは続行）",
    "the reader of standard output went away; the job goes on": "標準出力の読み手が終了した（ジョブは続行）",
    "A token is made on the site's account page.": "トークンはサイトのアカウントページで発行できます。",
    "Show this help.": "このヘルプを表示します。",
    "The site's address, or LEADERSBOARD_URL.": "サイトのURL。LEADERSBOARD_URLでも指定できます。",
    "Your token; better in LEADERSBOARD_TOKEN.": "トークン。LEADERSBOARD_TOKENでの指定をお勧めします。",
    "Language of messages (by default that of LANG).": "メッセージの言語（既定はLANGに従います）。",
    "One JSON object at the end; all else on standard error.": "最後にJSONを1つ出力し、ほかはすべて標準エラーに出します。",
    "The job's id.": "ジョブのID。",
    # submit
    "Upload code, run it, show its log live, print the result and the rank.": (
        "コードをアップロードして実行し、ログをリアルタイムで表示して、結果と順位を出力します。"
    ),
    "Files, one archive, or one folder.": "ファイル、アーカイブ1つ、またはフォルダー1つ。",
    "Run this submission, which is uploaded already.": "アップロード済みの提出物を実行します。",
    "Where it competes (by default: default).": "提出先のリーダーボード（既定：default）。",
    "What the submission is called on the pages.": "ページに表示される提出物の名前。",
    "The file that is run (by default: main.py).": "実行するファイル（既定：main.py）。",
    "The file passed as --config (by default: config.yaml).": "--configとして渡すファイル（既定：config.yaml）。",
    "Resource class (by default: small).": "リソースクラス（既定：small）。",
    "A JSON object laid over the config file; @FILE reads one.": (
        "設定ファイルに上書きするJSONオブジェクト。@FILEでファイルから読み込みます。"
    ),
    "A trial run: it never ranks.": "お試し実行。順位には載りません。",
    "The run may write to its own copy of the code folder.": "実行がコードフォルダーのコピーに書き込めるようにします。",
    "Enqueue it and end.": "ジョブを登録したら終了します。",
    "Show the log (the default).": "ログを表示します（既定）。",
    "a whole folder, packed on the way": "フォルダー全体を圧縮して提出",
    "two files; `submit` may be left out": "2つのファイルを提出（submitは省略可）",
    "an archive, in another resource class": "アーカイブを別のリソースクラスで実行",
    "under a name, to find it again": "後で見つけやすいように名前を付ける",
    "values laid over the config file": "設定ファイルの値を上書き",
    "a run that never ranks": "順位に載らないお試し実行",
    "only enqueue; prints the job's id": "登録だけしてジョブのIDを出力",
    "run what is uploaded already": "アップロード済みの提出物を実行",
    "--submission: it is uploaded already; give no PATH.": (
        "--submission: アップロード済みのため、PATHは指定できません。"
    ),
    "{option}: is decided by the upload; not with --submission.": (
        "{option}: アップロード時に決まるため、--submissionと同時には指定できません。"
    ),
    "This site is older and keeps no names of submissions: --name was ignored.": (
        "このサイトは古い版のため提出物の名前を保存できず、--nameは無視されました。"
    ),
    "Job {job} is enqueued: {url}": "ジョブ {job} を登録しました：{url}",
    "Uploading {names} ({size})": "{names} をアップロードしています（{size}）",
    "{percent} %  {sent} of {total}": "{percent} %  {sent} / {total}",
    "Left out: {names}.": "送信しないもの：{names}",
    "{names} and {more} more": "{names}、ほか{more}件",
    # follow, cancel, withdraw, restore
    "Show the log of a job until it ends, then its result and rank.": (
        "ジョブのログを終了まで表示し、その後に結果と順位を表示します。"
    ),
    "its log from the beginning, live, then the result": "ログを最初からリアルタイムで表示し、最後に結果を表示",
    "the log on standard error, the result as JSON": "ログは標準エラーに、結果はJSONで出力",
    "It runs again: attempt {number}.": "もう一度実行されています（{number}回目）。",
    "Cancel a job.": "ジョブをキャンセルします。",
    "a waiting job at once, a running one within seconds": "待機中のジョブはすぐに、実行中のジョブは数秒で終了",
    "{job} is cancelled.": "{job} をキャンセルしました。",
    "{job} is still running; it ends within seconds.": "{job} はまだ実行中ですが、数秒以内に終了します。",
    "Take a completed run of yours off the leaderboard.": "完了した自分の実行をリーダーボードから取り下げます。",
    "your next best run counts at once": "次に良い実行がすぐに順位に反映されます",
    "Count a run again that you withdrew.": "取り下げた実行を元に戻します。",
    "it competes again": "再び順位の対象になります",
    # list
    "List your jobs, or your submissions.": "自分のジョブまたは提出物を一覧表示します。",
    "your latest 20 jobs": "最新のジョブ20件",
    "those of one leaderboard": "1つのリーダーボードのジョブ",
    "those that failed": "失敗したジョブ",
    "what you have uploaded, with the ids for --submission": "提出物と、--submissionに使うID",
    "Submissions instead of jobs.": "ジョブの代わりに提出物を表示します。",
    "Only those of this leaderboard.": "このリーダーボードのものだけを表示します。",
    "Only jobs with this status.": "この状態のジョブだけを表示します。",
    "At most so many (by default: 20).": "最大件数（既定：20）。",
    "No jobs.": "ジョブはありません。",
    "No submissions.": "提出物はありません。",
    "--status: submissions have none.": "--status: 提出物には状態がありません。",
    "--limit: must be from 1 to {most}, not {given}.": "--limit: 1から{most}までで指定してください（指定値：{given}）。",
    # results
    "Show the metrics, rank and artifacts of an ended job; --download fetches the artifacts.": (
        "終了したジョブの指標、順位、成果物を表示します。--downloadで成果物をダウンロードします。"
    ),
    "metrics, rank, or why it does not rank; its artifacts": "指標、順位（または載らない理由）、成果物",
    "its artifacts too, below out/": "成果物もout/にダウンロード",
    "all of it for a program": "すべてをJSONで出力",
    "Write the artifacts below this folder.": "成果物をこのフォルダーに保存します。",
    "Overwrite files that differ.": "内容の異なるファイルを上書きします。",
    "{name} is there and differs; --force overwrites it.": (
        "{name} は既にあり、内容が異なります。--forceで上書きできます。"
    ),
    "Downloaded {name}": "{name} をダウンロードしました",
    "The artifact {name} would leave the folder.": "成果物 {name} の保存先がフォルダーの外になります。",
    "A file cannot be written: {why}.": "ファイルに書き込めません：{why}",
    "{name} arrived incomplete": "{name} を最後まで受信できませんでした",
    # The end of a job
    "The job is {status}: {code}: {message}": "ジョブの状態：{status}　{code}: {message}",
    "The job is completed after {seconds} s.": "ジョブは{seconds}秒で完了しました。",
    "An operator started this job, as a rerun of {job}": "運営者が {job} の再実行として開始したジョブです",
    "Rank {rank} on {board}, by {metric}, with this job.": "{board}で{rank}位です（{metric}、このジョブ）。",
    "Rank {rank} on {board}, by {metric}, with an earlier job of yours with {score}.": (
        "{board}で{rank}位です（{metric}、以前のジョブのスコア {score}）。"
    ),
    "Note: {note}": "注：{note}",
    "The job goes on without you.\n  follow: {prog} follow {job}\n  cancel: {prog} cancel {job}": (
        "ジョブは続行されます。\n  続きを見る： {prog} follow {job}\n  キャンセル： {prog} cancel {job}"
    ),
    "Stopped.": "中止しました。",
    "Stopped. Nothing was enqueued.": "中止しました。ジョブは登録されていません。",
    # The site
    "The site refused: {words}": "サイトが受け付けませんでした：{words}",
    "Try again in {seconds} s.": "{seconds}秒後にもう一度お試しください。",
    "Make a new token on the account page and set LEADERSBOARD_TOKEN.": (
        "アカウントページで新しいトークンを発行し、LEADERSBOARD_TOKENに設定してください。"
    ),
    "The site is at {address}: give that as --url.": "サイトは {address} にあります。--urlに指定してください。",
    "{url} does not answer as a LeadersBoard site: {why}. Check --url.": (
        "{url} からLeadersBoardとしての応答がありません：{why}　--urlを確認してください。"
    ),
    "its answer is none of a LeadersBoard site": "LeadersBoardの応答ではありません",
    "The site does not answer just now ({why}); trying again.": "サイトが応答しません（{why}）。再試行しています。",
    "The site answers again.": "サイトが再び応答しました。",
    # Wrong usage
    "Try {prog} --help": "{prog} --help で使い方を確認できます。",
    "{0}: is missing.": "{0}: 指定されていません。",
    "{0}: there is no such argument.": "{0}: このような引数はありません。",
    "{0}: needs a value.": "{0}: 値が必要です。",
    "{0}: must be a whole number, not {1}.": "{0}: 整数で指定してください（指定値：{1}）。",
    "{0}: must be one of {2}, not {1}.": "{0}: {2} のいずれかを指定してください（指定値：{1}）。",
    "{0}: not together with {1}.": "{0}: {1} と同時には指定できません。",
    "--url: {url} is no address: {why}.": "--url: {url} はURLとして正しくありません：{why}",
    "--url: must begin with http:// or https://, not {url}; or set LEADERSBOARD_URL.": (
        "--url: http:// または https:// で始まるURLを指定してください（指定値：{url}）。LEADERSBOARD_URLでも設定できます。"
    ),
    "--token: missing or not a token. Make one on the site's account page, set LEADERSBOARD_TOKEN.": (
        "--token: トークンがないか、正しくありません。"
        "サイトのアカウントページで発行し、LEADERSBOARD_TOKENに設定してください。"
    ),
    "{given} is no job's id: it is a UUID, as the job's page and `list` show it.": (
        "{given} はジョブのIDではありません。ジョブのページや `list` に表示されるUUIDを指定してください。"
    ),
    "--submission: {given} is no submission's id: it is a UUID, as `list --submissions` shows it.": (
        "--submission: {given} は提出物のIDではありません。`list --submissions` に表示されるUUIDを指定してください。"
    ),
    "--config: must be a JSON object or @FILE with one: {why}.": (
        "--config: JSONオブジェクト、またはそれを含むファイルを@FILEで指定してください：{why}"
    ),
    "--config: must be a JSON object, not {given}.": "--config: JSONオブジェクトを指定してください（指定値：{given}）。",
    "--config: there is no {name}.": "--config: {name} が見つかりません。",
    "PATH: give files, one archive or one folder.": (
        "PATH: ファイル、アーカイブ1つ、またはフォルダー1つを指定してください。"
    ),
    "PATH: there is no {name}.": "PATH: {name} が見つかりません。",
    "PATH: {name} is neither a file nor a folder.": "PATH: {name} はファイルでもフォルダーでもありません。",
    "PATH: one folder alone, or files.": "PATH: フォルダーは1つだけ指定するか、ファイルを指定してください。",
    "PATH: two files called {name}: give the folder that holds them instead.": (
        "PATH: {name} という名前のファイルが2つあります。代わりにフォルダーを指定してください。"
    ),
    "PATH: the folder is nested too deeply.": "PATH: フォルダーの階層が深すぎます。",
    "PATH: the folder has more than {most} files.": "PATH: フォルダー内のファイルが{most}個を超えています。",
    "PATH: symbolic links that leave the folder or lead nowhere cannot be sent: {names}. Replace them by the files.": (
        "PATH: フォルダーの外を指す、またはリンク先のないシンボリックリンクは送信できません：{names}"
        "　実際のファイルに置き換えてください。"
    ),
    "PATH: the name {name} is not UTF-8. Rename the file.": (
        "PATH: 名前 {name} がUTF-8ではありません。ファイル名を変更してください。"
    ),
    "PATH: the name {name} cannot be sent: it is not UTF-8, or has a quotation mark or a control character. Rename the file.": (
        "PATH: 名前 {name} は送信できません。UTF-8でないか、引用符や制御文字が含まれています。"
        "ファイル名を変更してください。"
    ),
    # This machine
    "This machine: {words}": "このマシンの問題です：{words}",
    "PATH: {why}.": "PATH: {why}",
    "A file cannot be read: {why}.": "ファイルを読み込めません：{why}",
    "A file became shorter while it was sent. Nothing was stored.": (
        "送信中にファイルが短くなりました。何も保存されていません。"
    ),
    "The folder cannot be read: {why}.": "フォルダーを読み込めません：{why}",
    "The folder cannot be packed: {why}. TMPDIR can name another folder for temporary files.": (
        "フォルダーを圧縮できません：{why}　一時フォルダーはTMPDIRで変更できます。"
    ),
    "There is no folder for temporary files: {why}. TMPDIR can name one.": (
        "一時ファイル用のフォルダーがありません：{why}　TMPDIRで指定できます。"
    ),
    "--config: the file cannot be read: {why}.": "--config: ファイルを読み込めません：{why}",
    "Standard output cannot be written: {why}.": "標準出力に書き込めません：{why}",
    "This program has a fault: {kind}: {why} ({where}). Please report it to the site's operators.": (
        "プログラムに不具合があります：{kind}: {why}（{where}）　サイトの運営者にお知らせください。"
    ),
}
