cdef enum:  # states of a decoder, in the order in which a message passes them
    S_START        # before the first byte of a message
    S_START_LF     # after the CR of the one empty line allowed there
    S_START_AGAIN  # after that empty line
    S_METHOD       # request line
    S_TARGET
    S_VERSION      # request line, or the start of a status line
    S_CODE         # status line
    S_PHRASE
    S_START_LINE_LF
    S_LINE         # a field line, or the CR that ends the section
    S_NAME
    S_LEADING
    S_VALUE
    S_VALUE_LF
    S_SECTION_LF
    S_BODY_LENGTH
    S_BODY_CLOSE   # a response's body that the end of the connection ends
    S_CHUNK_LINE   # a chunk's size and extensions: ``chunk_line`` has states of its own
    S_CHUNK_DATA
    S_CHUNK_DATA_CR
    S_CHUNK_DATA_LF
    S_CLOSED       # the last message said close: what follows is discarded
    S_DEAD         # after an error: what follows is discarded
