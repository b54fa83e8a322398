"""Read each file's own description of its columns: a CSV file's header, a Parquet file's schema.

Files of one delivery may differ: a column is added later, or two are swapped. The first lines or the footer of each
file tell which files have the same columns, so Spark needs to look at only one file of each kind.
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
    """Return the header of each file as written; None where a file has no line.

    Args:
        spark: the session, whose Hadoop configuration reaches the storage.
        files: the files to read.
        encoding: Java's name of the files' character encoding.
        quote: the quotation mark; a line break between two of them belongs to the header.
        comment: prefix of lines to skip; empty: none are skipped.

    Raises:
        InputError: a file cannot be read or has another encoding.
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
            # A quoted name may contain a line break.
            while quote and text.count(quote) % 2 and (line := reader.readLine()) is not None:
                text += f"\n{line}"
            return text
        finally:
            reader.close()

    headers: list[str | None] = _for_each(files, header, "cannot be read")
    for file, text in zip(files, headers, strict=True):
        if text is None and file.path.endswith(".bz2"):
            # Hadoop reads a file that is not bzip2 as empty, without an error.
            raise InputError(f"{file.path} holds no line: it is empty once unpacked, or no bzip2")
        if text is not None and "\0" in text:
            raise InputError(
                f"{file.path} is not text in {encoding}: name its encoding, for instance UTF-16, in options"
            )
    return headers


def parquet_schemas(spark: SparkSession, files: Sequence[SourceFile]) -> list[str]:
    """Return the schema of each file as Parquet writes it. Raises InputError where a file is cut off or not Parquet."""
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
    """Describe the first compressed file of `paths` that cannot be unpacked to its end; None if all can.

    Spark's own message does not name the file.
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
    """Return whether Java knows a character encoding of this name."""
    jvm: Any = spark._jvm
    try:
        return bool(jvm.java.nio.charset.Charset.isSupported(name))
    except (Py4JJavaError, PySparkException):
        return False


def breaks_lines_as_ascii(spark: SparkSession, encoding: str) -> bool:
    """Return whether the encoding writes a line break as the single byte at which Spark splits lines."""
    jvm: Any = spark._jvm
    return str(jvm.java.lang.String(b"\n", encoding)) == "\n"


def _opener(spark: SparkSession) -> Callable[[str], Any]:
    """Return a function that opens a file as a Java stream of its uncompressed bytes."""
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
    """Return the result of `read` for each path, reading several at a time."""

    def one(file: SourceFile) -> Any:
        try:
            return read(file.path)
        except (Py4JJavaError, PySparkException) as error:
            message = java_message(error)
            raise InputError(f"{file.path} {fault}: {message.removeprefix(f'{file.path} ')}") from None

    with ThreadPoolExecutor(THREADS) as threads:
        return list(threads.map(one, files))
