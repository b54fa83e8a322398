"""What each file says of its own columns: a CSV file's header, a Parquet file's schema.

Files of one delivery may differ: a column comes later, two are swapped. Reading the first lines or the footer of each
file tells which files have the same columns, so that Spark needs to look at one of each kind only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from lbsf.errors import InputError
from lbsf.ingest.files import COMPRESSED, THREADS, SourceFile, java_message


def csv_headers(
    spark: SparkSession, files: Sequence[SourceFile], *, encoding: str, quote: str, comment: str
) -> list[str | None]:
    """The header of each file as it stands there; None where a file has no line.

    Args:
        spark: the session, whose Hadoop configuration reaches the storage.
        files: where.
        encoding: Java's name of the files' character encoding.
        quote: the quotation mark; a line break between two of them belongs to the header.
        comment: lines that begin with it are skipped; empty: none are.

    Raises:
        InputError: a file cannot be read, or it is text of another encoding.
    """
    open_file = _opener(spark)
    jvm: Any = spark._jvm
    charset = jvm.java.nio.charset.Charset.forName(encoding)

    def header(path: str) -> str | None:
        reader = jvm.java.io.BufferedReader(jvm.java.io.InputStreamReader(open_file(path), charset))
        try:
            line = reader.readLine()
            while line is not None and (not line.strip() or (comment and line.startswith(comment))):
                line = reader.readLine()
            if line is None:
                return None
            text = str(line)
            # A name in quotes may hold a line break.
            while quote and text.count(quote) % 2 and (line := reader.readLine()) is not None:
                text += f"\n{line}"
            return text
        finally:
            reader.close()

    headers: list[str | None] = _for_each(files, header, "cannot be read")
    for file, text in zip(files, headers, strict=True):
        if text is None and file.path.endswith(".bz2"):
            # Hadoop finds nothing in what is no bzip2, and says nothing.
            raise InputError(f"{file.path} holds no line: it is empty once unpacked, or no bzip2")
        if text is not None and "\0" in text:
            raise InputError(
                f"{file.path} is not text in {encoding}: name its encoding, for instance UTF-16, in options"
            )
    return headers


def parquet_schemas(spark: SparkSession, files: Sequence[SourceFile]) -> list[str]:
    """The schema of each file as Parquet writes it. Raises InputError where a file is torn or is no Parquet."""
    jvm: Any = spark._jvm
    configuration = spark._jsparkSession.sessionState().newHadoopConf()

    def schema(path: str) -> str:
        hadoop = jvm.org.apache.hadoop.fs.Path(path)
        file = jvm.org.apache.parquet.hadoop.util.HadoopInputFile.fromPath(hadoop, configuration)
        reader = jvm.org.apache.parquet.hadoop.ParquetFileReader.open(file)
        try:
            return str(reader.getFileMetaData().getSchema().toString())
        finally:
            reader.close()

    return _for_each(files, schema, "cannot be opened as parquet")


def damaged_file(spark: SparkSession, paths: Sequence[str]) -> str | None:
    """What is wrong with the first compressed file of `paths` that does not unpack to its end; None if all do.

    Spark's own message does not say which file it was.
    """
    jvm: Any = spark._jvm
    open_file = _opener(spark)
    for path in sorted(path for path in paths if path.endswith(COMPRESSED)):
        try:
            nowhere = jvm.java.io.OutputStream.nullOutputStream()
            jvm.org.apache.hadoop.io.IOUtils.copyBytes(open_file(path), nowhere, 1 << 16, True)
        except (Py4JJavaError, PySparkException) as error:
            return f"{path} cannot be unpacked: {java_message(error)}"
    return None


def is_charset(spark: SparkSession, name: str) -> bool:
    """Whether Java knows a character encoding of this name."""
    jvm: Any = spark._jvm
    try:
        return bool(jvm.java.nio.charset.Charset.isSupported(name))
    except (Py4JJavaError, PySparkException):
        return False


def breaks_lines_as_ascii(spark: SparkSession, encoding: str) -> bool:
    """Whether a line break is the one byte that Spark looks for when it splits a file into lines."""
    jvm: Any = spark._jvm
    return str(jvm.java.lang.String(b"\n", encoding)) == "\n"


def _opener(spark: SparkSession) -> Callable[[str], Any]:
    """A function that opens a file as a Java stream of its unpacked bytes."""
    jvm: Any = spark._jvm
    configuration = spark._jsparkSession.sessionState().newHadoopConf()
    codecs = jvm.org.apache.hadoop.io.compress.CompressionCodecFactory(configuration)

    def open_file(path: str) -> Any:
        hadoop = jvm.org.apache.hadoop.fs.Path(path)
        stream = hadoop.getFileSystem(configuration).open(hadoop)
        codec = codecs.getCodec(hadoop)
        return stream if codec is None else codec.createInputStream(stream)

    return open_file


def _for_each(files: Sequence[SourceFile], read: Callable[[str], Any], fault: str) -> list[Any]:
    """`read` of each path, several at a time."""

    def one(file: SourceFile) -> Any:
        try:
            return read(file.path)
        except (Py4JJavaError, PySparkException) as error:
            message = java_message(error)
            raise InputError(f"{file.path} {fault}: {message.removeprefix(f'{file.path} ')}") from None

    with ThreadPoolExecutor(THREADS) as threads:
        return list(threads.map(one, files))
