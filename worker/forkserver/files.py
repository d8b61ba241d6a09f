
# Files that travel with a job (needs=, gives=), each time in a process of its own with the job's user and directory. A
# pack is a tar file of names below that directory. It is one text with bootstrap.py.
import stat


class Travel(Exception):
    """Files cannot travel; its text is the sentence."""


def inside(path, top):
    return path == top or path.startswith(top.rstrip("/") + "/")


def leaves(path, top):
    return f"{path} is, or lies behind, a link that leaves {top}"


def open_below(path, top):
    """A descriptor of this directory below top, made where it is not there; no link leads out, also none put there now."""
    real = os.path.realpath(path)
    if not inside(real, top):
        raise Travel(leaves(path, top))
    at = os.open(".", os.O_PATH | os.O_DIRECTORY)
    for part in os.path.relpath(real, top).split("/"):
        above = at
        try:
            try:
                os.mkdir(part, dir_fd=above)
            except FileExistsError:
                pass
            at = os.open(part, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=above)
        finally:
            os.close(above)
    return at


def add_file(archive, path):
    with open(path, "rb", opener=lambda p, flags: os.open(p, flags | os.O_NOFOLLOW | os.O_NONBLOCK)) as file:
        is_now = os.fstat(file.fileno())
        if not stat.S_ISREG(is_now.st_mode):
            raise Travel(f"{path} is no file, directory or link")
        member = archive.tarinfo(path)  # not gettarinfo, to which the second name of a file is a link
        member.mode, member.size, member.mtime = is_now.st_mode & 0o777, is_now.st_size, is_now.st_mtime
        try:
            archive.addfile(member, file)
        except OSError as error:
            if error.errno is None:  # it became shorter
                raise Travel(f"{path} changed while it was read") from None
            raise


def add_other(archive, path, kind, **more):
    member = archive.tarinfo(path)
    member.type, member.mtime = kind, os.lstat(path).st_mtime
    for key, value in more.items():
        setattr(member, key, value)
    archive.addfile(member)


def pack_names(names):
    """The names that are there of names and patterns, sorted."""
    import glob
    for name in names:
        found = [name] if os.path.lexists(name) else sorted(glob.glob(name))
        if not found:
            raise Travel(f"there is no {name} in {os.getcwd()}")
        yield from (os.path.normpath(path) for path in found)


def pack(out, names):
    """Writes what names (with commas between) name to out, as a tar file."""
    import tarfile
    top, seen = os.path.realpath("."), set()
    with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT) as archive:
        left = list(pack_names(names.split(",")))[::-1]
        while left:
            path = left.pop()
            if path in seen:
                continue
            seen.add(path)
            mode = os.lstat(path).st_mode
            if not inside(os.path.realpath(os.path.dirname(path)), top) or (stat.S_ISLNK(mode) and not inside(os.path.realpath(path), top)):
                raise Travel(leaves(path, top))
            if stat.S_ISDIR(mode):
                if path != ".":
                    add_other(archive, path, b"5", mode=mode & 0o777)
                left += sorted((os.path.normpath(os.path.join(path, name)) for name in os.listdir(path)), reverse=True)
            elif stat.S_ISLNK(mode):
                target = os.readlink(path)
                if target.startswith("/"):  # to within the directory, which is another one there
                    target = os.path.relpath(os.path.realpath(path), os.path.realpath(os.path.dirname(path)))
                add_other(archive, path, b"2", linkname=target)
            elif stat.S_ISREG(mode):
                add_file(archive, path)
            else:
                raise Travel(f"{path} is no file, directory or link")
            archive.members.clear()  # which it would keep all, for nobody


def fits(parts, names):
    """Whether the path of these parts is what one of names names, or below that."""
    import fnmatch
    def part_fits(part, pattern):
        return part == pattern or (fnmatch.fnmatchcase(part, pattern) and (part[0] != "." or pattern[0] == "."))
    for name in names:
        wanted = [part for part in name.split("/") if part not in ("", ".")]
        if len(parts) >= len(wanted) and all(map(part_fits, parts, wanted)):
            return True
    return False


def take_file(archive, member, top):
    """Writes it beside its place, then gives it its name: nobody finds half of it, also where this is killed."""
    import shutil
    name, draft = os.path.basename(member.name), f".{os.urandom(8).hex()}.ppfs"
    at = open_below(os.path.dirname(member.name), top)
    try:
        with open(draft, "xb", opener=lambda p, flags: os.open(p, flags, 0o600, dir_fd=at)) as file:
            shutil.copyfileobj(archive.extractfile(member), file, 1 << 20)
            if file.tell() != member.size:
                raise Travel(f"{member.name} is not whole")
            file.flush()  # afterwards it would have another time
            os.fchmod(file.fileno(), member.mode & 0o777 & ~umask())
            os.utime(file.fileno(), (member.mtime, member.mtime))
        os.replace(draft, name, src_dir_fd=at, dst_dir_fd=at)
    except BaseException:
        try:
            os.unlink(draft, dir_fd=at)
        except FileNotFoundError:
            pass
        raise
    finally:
        os.close(at)


def umask():
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def unpack(source, names):
    """Takes all out of a tar file, nothing through a link that leaves the directory; names: what these name (with commas
    between), and no links."""
    import tarfile
    top, names, modes = os.path.realpath("."), names.split(",") if names else None, []
    with tarfile.open(fileobj=source, mode="r|") as archive:
        for member in archive:
            parts = member.name.split("/")
            if any(part in ("", ".", "..") for part in parts) or (names and not fits(parts, names)):
                raise Travel(f"{member.name} was not asked for")
            if member.type == b"5":
                os.close(open_below(member.name, top))
                modes.append((member.name, member.mode & 0o777))
            elif member.type == b"2" and not names:
                os.close(open_below(os.path.dirname(member.name), top))
                os.symlink(member.linkname, member.name)
            elif member.type == b"0" and not member.issparse():
                take_file(archive, member, top)
            else:
                raise Travel(f"{member.name} is no file or directory")
            archive.members.clear()
    for path, mode in reversed(modes if not names else []):  # last, for they may be closed to their owner
        os.chmod(path, mode & ~umask() | 0o700)


def travel(out, fd, names):
    """b"", or a sentence: why files could not go into the pack in fd (out), or come out of it."""
    sys.path[:] = [place for place in sys.path if place and place != os.getcwd()]  # this process does nothing else
    try:
        with open(fd, "wb" if out else "rb", closefd=False) as file:
            (pack if out else unpack)(file, names)
    except Travel as error:
        return sentence(str(error))
    except OSError as error:
        where = error.filename2 or error.filename
        where = f"{where}: " if isinstance(where, str) else ""
        return sentence(where + (error.strerror or str(error)))
    except Exception as error:
        return sentence(summary(error))
    return b""
