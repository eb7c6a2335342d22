# Finds circles between the source files of one crate: scripts/check-circles runs it.
#
#   awk -v src=DIR -v allowed=FILE -f circles.awk DIR/lib.rs DIR/a.rs ...
#
# An edge goes from a file to the file that defines what it names: by `use`, or by a path such as
# `crate::a::b`, `super::b` or `module::b`. Names are followed through re-exports to where they are
# defined. No edge is `mod x;`, the re-export (`pub use`) of what is defined below, unless the file
# uses the name itself as well, and whatever is for tests only. Methods are not seen: a call names no
# file.
#
# It reads what rustfmt writes (a block ends at the indentation at which it began), and knows
# nothing else of Rust. POSIX awk.

# Each line of FILE: FROM TO, two paths or patterns with `*`, and `#` with the reason.
BEGIN {
    while (allowed != "" && (getline line < allowed) > 0) {
        reason = index(line, "#") ? substr(line, index(line, "#") + 1) : ""
        sub(/#.*/, "", line)
        if (split(line, word, " ") != 2) continue
        if (reason !~ /[a-z]/) fail(allowed ": " word[1] " " word[2] " gives no reason")
        allow[++allows] = pattern(word[1]) " " pattern(word[2])
        allow_text[allows] = word[1] " " word[2]
    }
}

FNR == 1 { begin_file(FILENAME) }
{ line = code($0); if (line != "" && !for_tests(line)) take(line) }

END {
    for (i = 1; i <= paths; i++) add_edge(path_file[i], resolve(path_module[i], path[i], 0), path[i])
    for (i = 1; i <= exports; i++) add_export(i)
    check_allowances()
    exit report() || failed
}

# ---- Reading ------------------------------------------------------------------------------------

function begin_file(name, rest) {
    file = name
    rest = substr(name, length(src) + 2)
    sub(/\.rs$/, "", rest)
    sub(/(^|\/)(lib|main|mod)$/, "", rest)
    gsub(/\//, "::", rest)
    depth = 0
    module[0] = rest == "" ? "crate" : "crate::" rest
    is_module[module[0]] = 1
    files[file] = module[0]
    skipping = in_text = 0
    statement = ""
}

# The line without strings and comments.
function code(line, before, end) {
    if (in_text) {
        end = text_end == "\"" ? first_quote(line) : index(line, text_end)
        if (!end) return ""
        line = substr(line, end + length(text_end))
        in_text = 0
    }
    if (line ~ /^ *\/\//) return ""
    # A quotation mark as a character begins no string.
    gsub(/b?'\\?.'/, "0", line)
    while (match(line, /r#"|"/)) {
        before = substr(line, 1, RSTART - 1)
        if (index(before, "//")) break
        text_end = RLENGTH == 1 ? "\"" : "\"#"
        line = substr(line, RSTART + RLENGTH)
        end = text_end == "\"" ? first_quote(line) : index(line, text_end)
        if (!end) {
            in_text = 1
            return before
        }
        line = before substr(line, end + length(text_end))
    }
    sub(/\/\/.*/, "", line)
    sub(/ +$/, "", line)
    return line
}

# Where the first quote stands that no backslash escapes.
function first_quote(line, at) {
    for (at = 1; at <= length(line); at++) {
        if (substr(line, at, 1) == "\\") at++
        else if (substr(line, at, 1) == "\"") return at
    }
    return 0
}

function indentation(line) {
    match(line, /^ */)
    return RLENGTH
}

# Whether the line belongs to an item under #[cfg(test)]. The file of such a module is forgotten.
function for_tests(line) {
    if (line ~ /^ *#\[cfg\(test\)\]/) {
        skipping = 1
        skip_at = indentation(line)
        return 1
    }
    if (!skipping) return 0
    if (skipping == 1 && line ~ /^ *#/) return 1
    if (skipping == 1 && match(line, /mod [a-z0-9_]+;/))
        test_module[module[depth] "::" substr(line, RSTART + 4, RLENGTH - 5)] = 1
    if (indentation(line) == skip_at && (line ~ /[;,]$/ || line ~ /^ *}/ || line ~ /{.*}$/)) skipping = 0
    else skipping = 2
    return 1
}

# Takes one line of code: the modules that begin and end, definitions, uses, paths.
function take(line, name) {
    if (statement == "" && depth && line ~ /^ *}/ && indentation(line) == module_at[depth]) {
        depth--
        return
    }
    if (statement != "" || line ~ /^ *(pub(\([a-z: ]*\))? )?use /) {
        statement = statement " " line
        if (line ~ /;$/) {
            take_use(statement)
            statement = ""
        }
        return
    }
    if (match(line, /^ *(pub(\([a-z: ]*\))? )?mod [a-z0-9_]+ \{/)) {
        name = line
        sub(/ \{.*/, "", name)
        sub(/.* /, "", name)
        depth++
        module_at[depth] = indentation(line)
        module[depth] = module[depth - 1] "::" name
        is_module[module[depth]] = 1
        return
    }
    if (indentation(line) == (depth ? module_at[depth] + 4 : 0)) take_definition(line)
    if (line !~ /^ *(pub(\([a-z: ]*\))? )?mod [a-z0-9_]+;/) take_paths(line)
}

function take_definition(line, name) {
    name = line
    sub(/^ *(pub(\([a-z: ]*\))? )?((const|async|unsafe|extern) )*/, "", name)
    if (line ~ /^ *(pub(\([a-z: ]*\))? )?const [A-Z_]/) sub(/^/, "const ", name)
    if (name !~ /^(fn|struct|enum|union|trait|type|const|static|macro_rules!) /) return
    sub(/^[a-z_!]+ (mut )?/, "", name)
    sub(/[^A-Za-z0-9_].*/, "", name)
    defined[module[depth] "::" name] = file
}

# Every `a::b` in a line; the name of a macro's own crate is `$crate`. Each word is noted too.
function take_paths(line, rest, found, words, word, i) {
    rest = line
    gsub(/\$crate/, "crate", rest)
    while (match(rest, /[A-Za-z_][A-Za-z0-9_]*(::[A-Za-z_][A-Za-z0-9_]*)+/)) {
        found = substr(rest, RSTART, RLENGTH)
        rest = substr(rest, RSTART + RLENGTH)
        if (found !~ /^(std|Self)::/) add_path(found)
    }
    words = split(line, word, /[^A-Za-z0-9_]+/)
    for (i = 1; i <= words; i++) mentions[file, word[i]] = 1
}

function add_path(text) {
    path[++paths] = text
    path_module[paths] = module[depth]
    path_file[paths] = file
}

function take_use(text, reexport) {
    reexport = text ~ /^ *pub/
    sub(/^ *(pub(\([a-z: ]*\))? )?use /, "", text)
    sub(/;$/, "", text)
    gsub(/[ \t]+/, " ", text)
    expand("", text, reexport)
}

# Takes a tree of `use` apart: `a::{b, c::{d as e}}`.
function expand(prefix, tree, reexport, level, start, at, character, part) {
    level = 0
    start = 1
    for (at = 1; at <= length(tree) + 1; at++) {
        character = substr(tree, at, 1)
        if (character == "{") level++
        if (character == "}") level--
        if (level || (character != "," && at <= length(tree))) continue
        part = substr(tree, start, at - start)
        start = at + 1
        gsub(/^ +| +$/, "", part)
        if (part == "") continue
        if (index(part, "{"))
            expand(prefix substr(part, 1, index(part, "{") - 1),
                substr(part, index(part, "{") + 1, length(part) - index(part, "{") - 1), reexport)
        else
            take_leaf(prefix part, reexport)
    }
}

function take_leaf(text, reexport, name) {
    name = text
    sub(/.*::/, "", name)
    if (match(text, / as /)) {
        name = substr(text, RSTART + 4)
        text = substr(text, 1, RSTART - 1)
    }
    sub(/^::/, "", text)
    if (sub(/::self$/, "", text)) {
        if (name == "self") name = text
        sub(/.*::/, "", name)
    }
    if (name == "*") {
        sub(/::\*$/, "", text)
        globs[module[depth]] = globs[module[depth]] text " "
    } else if (name != "_" && name != text) {
        alias[module[depth] "::" name] = text
        alias_module[module[depth] "::" name] = module[depth]
    }
    if (!reexport) {
        add_path(text)
        return
    }
    export[++exports] = text
    export_name[exports] = name
    export_module[exports] = module[depth]
    export_file[exports] = file
}

# ---- Resolving ----------------------------------------------------------------------------------

# The file that defines what a path names from within a module; "" if it is no file of this crate,
# or names a module as a whole.
function resolve(from, text, tries, parts, part, here, i, next_one, glob, n, j, found) {
    # Longer chains of re-exports than this are circles of their own.
    if (tries > 8) return ""
    parts = split(text, part, "::")
    here = from
    for (i = 1; i <= parts; i++) {
        if (part[i] == "crate") { here = "crate"; continue }
        if (part[i] == "self") continue
        if (part[i] == "super") { sub(/::[^:]*$/, "", here); continue }
        next_one = here "::" part[i]
        if (next_one in is_module) { here = next_one; continue }
        if (next_one in defined) return defined[next_one]
        if (next_one in alias)
            return resolve(alias_module[next_one], alias[next_one] tail(part, i, parts), tries + 1)
        n = split(globs[here], glob, " ")
        for (j = 1; j <= n; j++) {
            found = resolve(here, glob[j] tail(part, i - 1, parts), tries + 1)
            if (found != "") return found
        }
        return ""
    }
    return ""
}

function tail(part, i, parts, text) {
    text = ""
    while (++i <= parts) text = text "::" part[i]
    return text
}

function add_edge(from, to, name, i) {
    if (to == "" || from == to || is_for_tests(from) || is_for_tests(to)) return
    if ((from, to) in edge) return
    for (i = 1; i <= allows; i++) if ((from " " to) ~ ("^" allow[i] "$")) {
        used[i] = 1
        return
    }
    edge[from, to] = name
    targets[from] = targets[from] to " "
}

# What a file re-exports from below itself is an edge only if the file uses it, too.
function add_export(i, to) {
    to = resolve(export_module[i], export[i], 0)
    if (to == "") return
    if (index(files[to], export_module[i] "::") == 1 && !mentions[export_file[i], export_name[i]]) return
    add_edge(export_file[i], to, export[i])
}

function is_for_tests(name, part, parts, i, here) {
    if (name ~ /(^|\/)tests(\.rs$|\/)/) return 1
    parts = split(files[name], part, "::")
    here = ""
    for (i = 1; i <= parts; i++) {
        here = here (i > 1 ? "::" : "") part[i]
        if (here in test_module) return 1
    }
    return 0
}

# ---- Reporting ----------------------------------------------------------------------------------

# Marks in `seen` what can be reached from a file.
function reach(from, seen, queue, head, size, to, i, n) {
    for (i in seen) delete seen[i]
    head = 1
    size = 1
    queue[1] = from
    while (head <= size) {
        n = split(targets[queue[head++]], to, " ")
        for (i = 1; i <= n; i++) if (!(to[i] in seen)) {
            seen[to[i]] = 1
            queue[++size] = to[i]
        }
    }
}

function report(name, seen, other, circles, key, ends) {
    for (name in files) {
        reach(name, seen)
        for (other in seen) reaches[name, other] = 1
    }
    for (name in files) {
        if (!((name, name) in reaches) || told[name]) continue
        circles++
        print "circle in " src ":"
        for (other in files) if (((name, other) in reaches) && ((other, name) in reaches)) told[other] = circles
        for (key in edge) {
            split(key, ends, SUBSEP)
            if (told[ends[1]] == circles && told[ends[2]] == circles)
                print "  " ends[1] " uses " edge[key] " of " ends[2] | "sort"
        }
        close("sort")
    }
    return circles > 0
}

function check_allowances(i) {
    for (i = 1; i <= allows; i++)
        if (index(allow_text[i], src "/") == 1 && !used[i]) fail(allowed ": nothing needs " allow_text[i])
}

function pattern(text) {
    gsub(/\./, "\\.", text)
    gsub(/\*/, "[^ ]*", text)
    return text
}

function fail(text) {
    print text > "/dev/stderr"
    failed = 1
}
