"""Bills of materials of models: written as CycloneDX 1.6 and 1.7 or SPDX 3, and others' documents checked. Pure.

The rooms, in the order of the work:
    facts        what a bill is written from
    cyclonedx    a bill as CycloneDX
    spdx         a bill as SPDX 3
    forms        schemas and models of the formats, as data
    spdx_form    whether a document has the form of SPDX 3
    schemas      CycloneDX's schemas as validators
    validation   whether a document has the form that it claims
    reading      a document from bytes, bounded
    claims       what a document says of each component
    checking     the claims against the knowledge base and models that are known
"""
